//! A domain's ring: bytes to requests, replies and events to bytes, without waiting.
//!
//! A message that goes out is written completely before the next is begun, and a request is carried out only when all
//! before it went out. So a domain that doesn't read holds up itself, and what is kept for it is one request, one message,
//! and its [events](super::events). Its next request is taken off the ring meanwhile: a client that reads only when it
//! has written doesn't get stuck.

use super::server::{ConnectionId, Store};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::sync::atomic::Ordering;
use guest_kernel::store::ring::{BadIndex, End, Interface, Stream};
use guest_kernel::store::wire::{Assembler, Message, TooLong, error_name, strings};
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::*;

/// Messages that go out in one turn of one link at most.
const MESSAGES: usize = 16;
/// Links that have a turn in one call at most.
const TURNS: usize = 16;

/// The page and the port that a domain shares with the server.
pub trait Line {
    /// The page, mapped for as long as this lives.
    fn page(&self) -> &Interface;
    /// Sends an event to the domain.
    fn notify(&self);
}

/// Why a connection failed, as the page says it.
struct Failure(u32);

impl From<BadIndex> for Failure {
    fn from(_: BadIndex) -> Failure {
        Failure(XENSTORE_ERROR_RINGIDX)
    }
}

impl From<TooLong> for Failure {
    fn from(_: TooLong) -> Failure {
        Failure(XENSTORE_ERROR_PROTO)
    }
}

/// One domain's connection.
struct Link<L> {
    line: L,
    id: ConnectionId,
    stream: Stream,
    incoming: Assembler,
    request: Option<Message>,
    outgoing: VecDeque<u8>,
    /// Whether an event may go out before the request is carried out.
    events_first: bool,
    has_failed: bool,
}

impl<L: Line> Link<L> {
    fn new(line: L, id: ConnectionId) -> Link<L> {
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        line.page().server_features.store(features, Ordering::Release);
        Link {
            stream: Stream::new(End::Server, line.page()),
            line,
            id,
            incoming: Assembler::default(),
            request: None,
            outgoing: VecDeque::new(),
            events_first: true,
            has_failed: false,
        }
    }

    /// Goes on until nothing can be done, or the turn is over; whether it is over.
    fn turn(&mut self, store: &mut Store) -> bool {
        let mut moved = false;
        if self.line.page().connection.load(Ordering::Acquire) == XENSTORE_RECONNECT {
            self.restart(store);
            moved = true;
        }
        let is_over = if self.has_failed { Ok(false) } else { self.exchange(store, &mut moved) };
        let is_over = is_over.unwrap_or_else(|Failure(code)| {
            self.line.page().error.store(code, Ordering::Release);
            store.reset(self.id);
            self.has_failed = true;
            moved = true;
            false
        });
        if moved {
            self.line.notify();
        }
        is_over
    }

    fn exchange(&mut self, store: &mut Store, moved: &mut bool) -> Result<bool, Failure> {
        for _ in 0..MESSAGES {
            self.receive(moved)?;
            self.send(moved)?;
            if !self.outgoing.is_empty() {
                return Ok(false);
            }
            let event = if self.events_first || self.request.is_none() { store.next_event(self.id) } else { None };
            let message = match (event, self.request.take()) {
                (Some(payload), request) => {
                    self.request = request;
                    self.events_first = false;
                    Message { kind: XS_WATCH_EVENT, payload, ..Message::default() }
                }
                (None, Some(request)) => {
                    self.events_first = true;
                    answer(store, self.id, request)
                }
                (None, None) => return Ok(false),
            };
            message.encode(&mut self.outgoing)?;
        }
        self.send(moved)?;
        Ok(self.outgoing.is_empty())
    }

    fn receive(&mut self, moved: &mut bool) -> Result<(), Failure> {
        if self.request.is_none() {
            self.request = self.incoming.pull(|bytes| {
                let count = self.stream.read(self.line.page(), bytes)?;
                *moved |= count > 0;
                Ok::<usize, Failure>(count)
            })?;
        }
        Ok(())
    }

    fn send(&mut self, moved: &mut bool) -> Result<(), Failure> {
        let count = self.stream.write(self.line.page(), self.outgoing.iter().copied())?;
        self.outgoing.drain(..count);
        *moved |= count > 0;
        Ok(())
    }

    /// Begins afresh, as the domain asked.
    fn restart(&mut self, store: &mut Store) {
        store.reset(self.id);
        let page = self.line.page();
        page.clear();
        self.stream = Stream::new(End::Server, page);
        self.incoming = Assembler::default();
        self.request = None;
        self.outgoing.clear();
        self.has_failed = false;
        page.error.store(XENSTORE_ERROR_NONE, Ordering::Relaxed);
        page.connection.store(XENSTORE_CONNECTED, Ordering::Release);
    }
}

/// Carries out a request.
fn answer(store: &mut Store, id: ConnectionId, request: Message) -> Message {
    match store.request(id, request.kind, request.transaction, &request.payload) {
        Ok(payload) => Message { payload, ..request },
        Err(errno) => Message { kind: XS_ERROR, payload: strings([error_name(errno)]), ..request },
    }
}

/// All domains' connections.
pub struct Links<L> {
    all: BTreeMap<ConnectionId, Link<L>>,
    by_domain: BTreeMap<u16, ConnectionId>,
    /// Those that may have something to do.
    ready: VecDeque<ConnectionId>,
    is_ready: BTreeSet<ConnectionId>,
}

impl<L: Line> Links<L> {
    /// None.
    pub fn new() -> Links<L> {
        Links { all: BTreeMap::new(), by_domain: BTreeMap::new(), ready: VecDeque::new(), is_ready: BTreeSet::new() }
    }

    /// Connects a domain that was created.
    ///
    /// # Errors
    /// Those of [`Store::introduce`].
    pub fn introduce(&mut self, store: &mut Store, domain: u16, line: L) -> Result<(), Errno> {
        let id = store.introduce(domain)?;
        self.all.insert(id, Link::new(line, id));
        self.by_domain.insert(domain, id);
        self.mark(id);
        Ok(())
    }

    /// A domain sent an event.
    pub fn wake(&mut self, domain: u16) {
        if let Some(id) = self.by_domain.get(&domain) {
            self.mark(*id);
        }
    }

    /// Serves the connections that have something to do, each for a bounded turn. Whether there is more to do at once.
    pub fn work(&mut self, store: &mut Store) -> bool {
        self.collect(store);
        for _ in 0..TURNS {
            let Some(id) = self.ready.pop_front() else { break };
            self.is_ready.remove(&id);
            if !store.is_connected(id) {
                self.all.remove(&id);
                self.by_domain.retain(|_, of| *of != id);
            } else if self.all.get_mut(&id).is_some_and(|link| link.turn(store)) {
                self.mark(id);
            }
            self.collect(store);
        }
        !self.ready.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn collect(&mut self, store: &mut Store) {
        for id in store.take_woken() {
            self.mark(id);
        }
    }

    fn mark(&mut self, id: ConnectionId) {
        if self.all.contains_key(&id) && self.is_ready.insert(id) {
            self.ready.push_back(id);
        }
    }
}

impl<L: Line> Default for Links<L> {
    fn default() -> Links<L> {
        Links::new()
    }
}
