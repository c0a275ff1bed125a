//! The frontend's side: requests out, responses in.

use super::memory::{Index, SharedMemory, Slots, slot_bytes};
use super::{Error, Seen, ahead};
use core::marker::PhantomData;
use pv_abi::io::ring::{RingHeader, must_notify};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The frontend's side of a ring.
#[derive(Debug)]
pub struct Front<M, Req, Rsp> {
    slots: Slots<M>,
    /// The next request to write. Those from `published` on are not the backend's yet.
    pub(super) req_prod: u32,
    pub(super) published: u32,
    /// The next response to read.
    pub(super) rsp_cons: u32,
    pub(super) seen: Seen,
    entries: PhantomData<fn(Req) -> Rsp>,
}

impl<M, Req, Rsp> Front<M, Req, Rsp>
where
    M: SharedMemory,
    Req: IntoBytes + Immutable,
    Rsp: FromBytes + IntoBytes,
{
    const SLOT_BYTES: usize = slot_bytes::<Req, Rsp>();

    /// An empty ring, in memory that the backend has not got yet.
    ///
    /// # Errors
    /// [`Error::TooSmall`].
    pub fn new(memory: M) -> Result<Self, Error> {
        let slots = Slots::new(memory, Self::SLOT_BYTES)?;
        let RingHeader { req_prod, req_event, rsp_prod, rsp_event, .. } = RingHeader::EMPTY;
        slots.set_index(Index::RequestProducer, req_prod);
        slots.set_index(Index::RequestEvent, req_event);
        slots.set_index(Index::ResponseProducer, rsp_prod);
        slots.set_index(Index::ResponseEvent, rsp_event);
        let (published, rsp_cons) = (req_prod, rsp_prod);
        Ok(Front { slots, req_prod, published, rsp_cons, seen: Seen::until(rsp_cons), entries: PhantomData })
    }

    /// How many requests the ring holds.
    pub const fn slots(&self) -> u32 {
        self.slots.count()
    }

    /// How many more requests can be pushed now.
    pub fn free(&self) -> u32 {
        self.slots() - ahead(self.req_prod, self.rsp_cons)
    }

    /// Writes a request. The backend sees it when it is [published](Self::publish). Returns its index, whose low bits
    /// are its slot; or `None` when the ring is full.
    pub fn push(&mut self, request: &Req) -> Option<u32> {
        if self.free() == 0 {
            return None;
        }
        let index = self.req_prod;
        self.slots.write(index, request);
        self.req_prod = index.wrapping_add(1);
        Some(index)
    }

    /// Shows the backend what was pushed. Whether it wants to be told.
    #[must_use = "the backend sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.published, self.req_prod);
        if old == self.req_prod {
            return false;
        }
        self.slots.set_index(Index::RequestProducer, self.req_prod);
        self.slots.barrier();
        must_notify(old, self.req_prod, self.slots.index(Index::RequestEvent))
    }

    /// The next response, if there is one.
    ///
    /// # Errors
    /// [`Error::IndexJump`]: more responses than requests, or fewer than before.
    pub fn take(&mut self) -> Result<Option<Rsp>, Error> {
        if !self.has_response()? {
            return Ok(None);
        }
        let response = self.slots.read(self.rsp_cons);
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(Some(response))
    }

    /// Asks to be told when `count` more responses are there, or all that can come. If they are there already,
    /// `true`: then take them instead of waiting.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    #[must_use = "a response that is there already causes no event"]
    pub fn arm(&mut self, count: u32) -> Result<bool, Error> {
        let count = count.clamp(1, self.in_flight().max(1));
        self.slots.set_index(Index::ResponseEvent, self.rsp_cons.wrapping_add(count));
        self.slots.barrier();
        let (slots, room) = (&self.slots, self.in_flight());
        Ok(self.seen.look(self.rsp_cons, room, || slots.index(Index::ResponseProducer))? >= count)
    }

    /// How many published requests have no response that was taken.
    pub fn in_flight(&self) -> u32 {
        ahead(self.published, self.rsp_cons)
    }

    /// The memory.
    pub const fn memory(&self) -> &M {
        self.slots.memory()
    }

    /// The memory, when the ring is done with.
    pub fn into_memory(self) -> M {
        self.slots.into_memory()
    }

    fn has_response(&mut self) -> Result<bool, Error> {
        let (slots, room) = (&self.slots, self.in_flight());
        self.seen.beyond(self.rsp_cons, room, || slots.index(Index::ResponseProducer))
    }
}
