//! The backend's side: requests in, responses out.

use super::memory::{Index, SharedMemory, Slots, slot_bytes};
use super::{Error, Seen, ahead};
use core::marker::PhantomData;
use pv_abi::io::ring::must_notify;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The backend's side of a ring.
#[derive(Debug)]
pub struct Back<M, Req, Rsp> {
    slots: Slots<M>,
    /// The next request to read.
    pub(super) req_cons: u32,
    seen: Seen,
    /// The next response to write. Those from `published` on are not the frontend's yet.
    pub(super) rsp_prod: u32,
    pub(super) published: u32,
    entries: PhantomData<fn(Req) -> Rsp>,
}

impl<M, Req, Rsp> Back<M, Req, Rsp>
where
    M: SharedMemory,
    Req: FromBytes + IntoBytes,
    Rsp: IntoBytes + Immutable,
{
    const SLOT_BYTES: usize = slot_bytes::<Req, Rsp>();

    /// A ring that a frontend made. Requests may be in it already, and it may have been in use with another backend:
    /// what that one answered stays answered.
    ///
    /// # Errors
    /// When it is too small, or its indices are impossible.
    pub fn attach(memory: M) -> Result<Self, Error> {
        let slots = Slots::new(memory, Self::SLOT_BYTES)?;
        let answered = slots.index(Index::ResponseProducer);
        let mut ring = Back {
            slots,
            req_cons: answered,
            seen: Seen::until(answered),
            rsp_prod: answered,
            published: answered,
            entries: PhantomData,
        };
        ring.has_request()?;
        Ok(ring)
    }

    /// How many requests the ring holds.
    pub const fn slots(&self) -> u32 {
        self.slots.count()
    }

    /// The next request, if there is one.
    ///
    /// # Errors
    /// [`Error::IndexJump`]: more requests than slots whose request was answered, or fewer than before.
    pub fn take(&mut self) -> Result<Option<Req>, Error> {
        if !self.has_request()? {
            return Ok(None);
        }
        let request = self.slots.read(self.req_cons);
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(Some(request))
    }

    /// Asks to be told of the next request. If there is one already, `true`: then take it instead of waiting.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    #[must_use = "a request that is there already causes no event"]
    pub fn arm(&mut self) -> Result<bool, Error> {
        self.slots.set_index(Index::RequestEvent, self.req_cons.wrapping_add(1));
        self.slots.barrier();
        let (slots, room) = (&self.slots, self.slots() - self.unanswered());
        Ok(self.seen.look(self.req_cons, room, || slots.index(Index::RequestProducer))? > 0)
    }

    /// Writes a response. The frontend sees it when it is [published](Self::publish), and then takes back what it had
    /// granted for the request: it must not be in use any more.
    ///
    /// # Panics
    /// When every request that was taken has its response.
    pub fn respond(&mut self, response: &Rsp) {
        assert!(self.unanswered() > 0, "a response without a request");
        self.slots.write(self.rsp_prod, response);
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
    }

    /// Shows the frontend the responses. Whether it wants to be told.
    #[must_use = "the frontend sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.published, self.rsp_prod);
        if old == self.rsp_prod {
            return false;
        }
        self.slots.set_index(Index::ResponseProducer, self.rsp_prod);
        self.slots.barrier();
        must_notify(old, self.rsp_prod, self.slots.index(Index::ResponseEvent))
    }

    /// How many requests were taken that have no response yet.
    pub fn unanswered(&self) -> u32 {
        ahead(self.req_cons, self.rsp_prod)
    }

    /// The memory.
    pub const fn memory(&self) -> &M {
        self.slots.memory()
    }

    /// The memory, when the ring is done with.
    pub fn into_memory(self) -> M {
        self.slots.into_memory()
    }

    fn has_request(&mut self) -> Result<bool, Error> {
        let (slots, room) = (&self.slots, self.slots() - self.unanswered());
        self.seen.beyond(self.req_cons, room, || slots.index(Index::RequestProducer))
    }
}
