//! A domain's ring: bytes to requests, replies and events to bytes, without waiting.
//!
//! A message that goes out is written completely before the next is begun, and a request is carried out only when all
//! before it went out. So a domain that doesn't read holds up itself, and what is kept for it is one request, one message,
//! and its [events](super::events). Its next request is taken off the ring meanwhile: a client that reads only when it
//! has written doesn't get stuck.

use super::local::Shared;
use super::server::{ConnectionId, Store};
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;
use guest_kernel::store::ring::{BadIndex, End, Interface, Stream};
use guest_kernel::store::wire::{Assembler, Message, TooLong, error_name, strings};
use pv_abi::io::xenstore::*;

/// Messages that go out in one turn at most.
const MESSAGES: usize = 16;
/// What a request or an event costs its domain, in nanoseconds.
const MESSAGE_COST: u64 = 50_000;
/// A turn whose requests have cost so much beside that is over, in nanoseconds: there are few such requests.
const TURN_COST: u64 = 100_000;

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

/// What a link is left with after its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to do at once.
    More,
    /// Nothing can be done until the domain sends an event, or one comes for it.
    Wait,
    /// The domain was released: the link is of no use any more.
    Gone,
}

/// One domain's connection, until the domain is released.
pub struct Link<L> {
    line: L,
    store: Shared,
    id: ConnectionId,
    stream: Stream,
    incoming: Assembler,
    request: Option<Message>,
    outgoing: VecDeque<u8>,
    /// Whether an event may go out before the request is carried out.
    events_first: bool,
    has_failed: bool,
    spent: u64,
    is_to_panic: bool,
}

impl<L: Line> Link<L> {
    /// The link of a domain that is introduced, for the requests of this connection.
    pub fn new(store: Shared, id: ConnectionId, line: L) -> Link<L> {
        let features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
        line.page().server_features.store(features, Ordering::Release);
        Link {
            stream: Stream::new(End::Server, line.page()),
            line,
            store,
            id,
            incoming: Assembler::default(),
            request: None,
            outgoing: VecDeque::new(),
            events_first: true,
            has_failed: false,
            spent: 0,
            is_to_panic: false,
        }
    }

    /// What it was given for the domain's page and port.
    pub fn line(&self) -> &L {
        &self.line
    }

    /// The same, to change it.
    pub fn line_mut(&mut self) -> &mut L {
        &mut self.line
    }

    /// What its domain's requests and events have cost so far, in nanoseconds: a price for each, and what it made the server
    /// look at. One request can be a hundred times as dear as another.
    pub const fn spent(&self) -> u64 {
        self.spent
    }

    /// Goes on until nothing can be done, or for a bounded time.
    pub fn turn(&mut self) -> Turn {
        let store = self.store.clone();
        let store = &mut store.borrow_mut();
        if !store.is_connected(self.id) {
            return Turn::Gone;
        }
        let mut moved = false;
        if self.line.page().connection.load(Ordering::Acquire) == XENSTORE_RECONNECT {
            self.restart(store);
            moved = true;
        }
        let turn = if self.has_failed { Ok(Turn::Wait) } else { self.exchange(store, &mut moved) };
        let turn = turn.unwrap_or_else(|Failure(code)| {
            self.line.page().error.store(code, Ordering::Release);
            store.reset(self.id);
            self.has_failed = true;
            moved = true;
            Turn::Wait
        });
        if moved {
            self.line.notify();
        }
        turn
    }

    /// Serves the domain no more, after a panic in the middle of anything, until it begins afresh: the page says so.
    pub fn cut_off(&mut self) {
        self.store.borrow_mut().reset(self.id);
        self.incoming = Assembler::default();
        self.request = None;
        self.outgoing.clear();
        self.has_failed = true;
        self.line.page().error.store(XENSTORE_ERROR_COMM, Ordering::Release);
        self.line.notify();
    }

    /// Has it panic when it next has a request, to see what becomes of its domain.
    pub const fn doom(&mut self) {
        self.is_to_panic = true;
    }

    fn exchange(&mut self, store: &mut Store, moved: &mut bool) -> Result<Turn, Failure> {
        let mut dear = 0;
        for _ in 0..MESSAGES {
            self.receive(moved)?;
            self.send(moved)?;
            if !self.outgoing.is_empty() {
                return Ok(Turn::Wait);
            }
            let before = store.cost();
            let event = if self.events_first || self.request.is_none() { store.next_event(self.id) } else { None };
            let message = match (event, self.request.take()) {
                (Some(payload), request) => {
                    self.request = request;
                    self.events_first = false;
                    Message { kind: XS_WATCH_EVENT, payload, ..Message::default() }
                }
                (None, Some(request)) => {
                    assert!(!core::mem::take(&mut self.is_to_panic), "asked for at the prompt");
                    self.events_first = true;
                    answer(store, self.id, request)
                }
                (None, None) => return Ok(Turn::Wait),
            };
            let cost = store.cost() - before;
            self.spent += MESSAGE_COST + cost;
            dear += cost;
            message.encode(&mut self.outgoing)?;
            if dear > TURN_COST {
                break;
            }
        }
        self.send(moved)?;
        Ok(if self.outgoing.is_empty() { Turn::More } else { Turn::Wait })
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
