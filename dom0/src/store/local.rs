//! This domain's own connections: requests are calls.

use super::server::{ConnectionId, Store};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use guest_kernel::store::{Bus, Event, Tx};
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::XENSTORE_PAYLOAD_MAX;

/// The server, as its users in this domain share it. It is borrowed only within their calls.
pub type Shared = Rc<RefCell<Store>>;

/// A connection of domain 0, which may do everything. It ends when it is dropped.
pub struct Connection {
    store: Shared,
    id: ConnectionId,
}

impl Connection {
    /// A new connection.
    pub fn new(store: &Shared) -> Connection {
        let id = store.borrow_mut().connect(0);
        Connection { store: store.clone(), id }
    }

    /// Has `wake` called when an event comes and none was there, in the middle of somebody's request: it must make none
    /// itself.
    pub fn on_event(&self, wake: impl Fn() + 'static) {
        self.store.borrow_mut().on_event(self.id, Box::new(wake));
    }
}

impl Bus for Connection {
    fn request(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        let payload = parts.concat();
        if payload.len() > XENSTORE_PAYLOAD_MAX as usize {
            return Err(Errno::E2BIG);
        }
        self.store.borrow_mut().request(self.id, kind, tx.0, &payload)
    }

    fn event(&mut self) -> Option<Event> {
        Event::parse(&self.store.borrow_mut().next_event(self.id)?)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.store.borrow_mut().disconnect(self.id);
    }
}
