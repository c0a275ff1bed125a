//! The client's end of a ring, as a state machine that never waits.

use super::bus::{Event, Tx};
use super::ring::{BadIndex, End, Interface, Stream};
use super::wire::{Assembler, HEADER, Message, TooLong, named_error};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::*;

/// The connection doesn't work any more. All requests fail with `EIO` until a [`Client::reconnect`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken;

impl From<BadIndex> for Broken {
    fn from(_: BadIndex) -> Broken {
        Broken
    }
}

impl From<TooLong> for Broken {
    fn from(_: TooLong) -> Broken {
        Broken
    }
}

/// Number of a request that was submitted.
pub type RequestId = u32;

/// A request's kind, to which the reply's must be the same, and the reply when it came.
type Awaited = (u32, Option<Result<Vec<u8>, Errno>>);

/// A client.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    incoming: Assembler,
    outgoing: VecDeque<u8>,
    last: RequestId,
    awaited: BTreeMap<RequestId, Awaited>,
    events: VecDeque<Event>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Works,
    Broken,
    /// Waits for the server to begin afresh.
    Restarts,
}

impl Client {
    /// A client that begins where the page's indices are.
    pub fn new(page: &Interface) -> Client {
        let mut client = Client {
            stream: Stream::new(End::Client, page),
            incoming: Assembler::default(),
            outgoing: VecDeque::new(),
            last: 0,
            awaited: BTreeMap::new(),
            events: VecDeque::new(),
            state: State::Works,
        };
        // Somebody may have asked for a fresh start on our behalf.
        if page.connection.load(Ordering::Acquire) == XENSTORE_RECONNECT {
            client.state = State::Restarts;
        }
        client
    }

    /// Submits a request, whose payload is `parts` in a row.
    ///
    /// # Errors
    /// `E2BIG` if it is too long.
    pub fn submit(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<RequestId, Errno> {
        self.last = self.last.wrapping_add(1).max(1);
        let message = Message { kind, request: self.last, transaction: tx.0, payload: parts.concat() };
        let mut bytes = Vec::with_capacity(HEADER + message.payload.len());
        message.encode(&mut bytes).map_err(|TooLong| Errno::E2BIG)?;
        let reply = if self.state == State::Broken { Some(Err(Errno::EIO)) } else { None };
        if reply.is_none() {
            self.outgoing.extend(bytes);
        }
        self.awaited.insert(self.last, (kind, reply));
        Ok(self.last)
    }

    /// Takes a request's reply, once it is there.
    pub fn reply(&mut self, id: RequestId) -> Option<Result<Vec<u8>, Errno>> {
        self.awaited.get(&id)?.1.as_ref()?;
        self.awaited.remove(&id)?.1
    }

    /// Takes the next event.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Moves what can be moved in both directions; whether the server is to be notified.
    pub fn work(&mut self, page: &Interface) -> bool {
        let mut moved = false;
        if self.state == State::Restarts {
            if page.connection.load(Ordering::Acquire) == XENSTORE_RECONNECT {
                return false;
            }
            self.stream = Stream::new(End::Client, page);
            self.state = State::Works;
        }
        if self.state == State::Works && self.exchange(page, &mut moved).is_err() {
            self.fail();
        }
        moved
    }

    /// Whether requests fail because the connection doesn't work.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Asks the server to begin afresh, and says whether it can; then it is to be notified. Watches and transactions are
    /// gone, and requests under way fail.
    pub fn reconnect(&mut self, page: &Interface) -> bool {
        if page.server_features.load(Ordering::Acquire) & XENSTORE_SERVER_FEATURE_RECONNECTION == 0 {
            return false;
        }
        self.fail();
        self.incoming = Assembler::default();
        self.events.clear();
        self.state = State::Restarts;
        page.connection.store(XENSTORE_RECONNECT, Ordering::Release);
        true
    }

    fn exchange(&mut self, page: &Interface, moved: &mut bool) -> Result<(), Broken> {
        let has_errors = page.server_features.load(Ordering::Acquire) & XENSTORE_SERVER_FEATURE_ERROR != 0;
        if has_errors && page.error.load(Ordering::Acquire) != XENSTORE_ERROR_NONE {
            return Err(Broken);
        }
        let written = self.stream.write(page, self.outgoing.iter().copied())?;
        self.outgoing.drain(..written);
        *moved |= written > 0;
        loop {
            let message = self.incoming.pull(|bytes| {
                let count = self.stream.read(page, bytes)?;
                *moved |= count > 0;
                Ok::<usize, Broken>(count)
            })?;
            let Some(message) = message else { return Ok(()) };
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        if message.kind == XS_WATCH_EVENT {
            self.events.extend(Event::parse(&message.payload));
            return;
        }
        // A reply to what nobody asked is dropped.
        if let Some((kind, reply @ None)) = self.awaited.get_mut(&message.request) {
            *reply = Some(match message.kind {
                XS_ERROR => Err(named_error(&message.payload)),
                same if same == *kind => Ok(message.payload),
                _ => Err(Errno::EIO),
            });
        }
    }

    fn fail(&mut self) {
        self.state = State::Broken;
        self.outgoing.clear();
        for (_, reply) in self.awaited.values_mut() {
            reply.get_or_insert(Err(Errno::EIO));
        }
    }
}

#[cfg(test)]
mod tests;
