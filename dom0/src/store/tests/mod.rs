//! The server as its clients see it.

mod cost;
mod limits;
mod model;
mod random;
mod ring;
mod rules;
mod xenbus;

use super::server::{ConnectionId, Store};
use super::{Connection, Limits, Shared};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use guest_kernel::store::wire::Permission;
use guest_kernel::store::{Bus, Event, Tx};
use pv_abi::errno::Errno;

/// A connection of any domain, as a [`Bus`].
struct Guest {
    store: Shared,
    id: ConnectionId,
}

impl Guest {
    fn introduce(store: &Shared, domain: u16) -> Guest {
        let id = store.borrow_mut().introduce(domain).unwrap();
        Guest { store: store.clone(), id }
    }

    /// All events that wait, as path and token.
    fn events(&mut self) -> Vec<(std::string::String, std::string::String)> {
        core::iter::from_fn(|| self.event()).map(|event| (event.path, event.token)).collect()
    }
}

impl Bus for Guest {
    fn request(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        self.store.borrow_mut().request(self.id, kind, tx.0, &parts.concat())
    }

    fn event(&mut self) -> Option<Event> {
        Event::parse(&self.store.borrow_mut().next_event(self.id)?)
    }
}

fn shared(limits: Limits) -> Shared {
    Rc::new(RefCell::new(Store::new(limits)))
}

/// A server, a connection of domain 0, and those of domains 1 to `count`, which own their homes. All may write below
/// `/all`.
fn world(limits: Limits, count: u16) -> (Shared, Connection, Vec<Guest>) {
    let store = shared(limits);
    let mut control = Connection::new(&store);
    control.mkdir(Tx::NONE, "/all").unwrap();
    control.set_permissions(Tx::NONE, "/all", &permissions("b0")).unwrap();
    let guests = (1..=count).map(|domain| settle(&store, &mut control, domain)).collect();
    (store, control, guests)
}

/// Makes a domain's home and introduces it.
fn settle(store: &Shared, control: &mut Connection, domain: u16) -> Guest {
    let home = std::format!("/local/domain/{domain}");
    control.mkdir(Tx::NONE, &home).unwrap();
    control.set_permissions(Tx::NONE, &home, &permissions(&std::format!("n{domain}"))).unwrap();
    Guest::introduce(store, domain)
}

fn permissions(text: &str) -> Vec<Permission> {
    text.split(' ').map(|entry| Permission::parse(entry.as_bytes()).unwrap()).collect()
}
