//! The server as its clients see it.

mod cost;
mod limits;
mod model;
mod random;
mod ring;
mod rules;
mod xenbus;

use super::server::{ConnectionId, Rings, Store, Wake};
use super::{Connection, Limits, Shared};
use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
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
        Connection::new(store).introduce(domain, 1, 1).unwrap();
        let id = store.borrow().connection_of(domain).unwrap();
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

/// What the server wants done about rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    Open(u16, u64, u32),
    Rebind(u16, u32),
    Close(u16),
}

/// Rings of which is known what the server wanted. There is no domain with frame 0, nor one that allocated port 99.
#[derive(Clone, Default)]
struct Calls(Rc<RefCell<Vec<Call>>>);

impl Calls {
    fn made(&self) -> Vec<Call> {
        self.0.take()
    }

    fn port(port: u32) -> Result<(), Errno> {
        if port == 99 { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

impl Rings for Calls {
    fn open(&mut self, _: ConnectionId, domain: u16, frame: u64, port: u32) -> Result<Wake, Errno> {
        self.0.borrow_mut().push(Call::Open(domain, frame, port));
        Calls::port(port)?;
        if frame == 0 { Err(Errno::ESRCH) } else { Ok(Box::new(|| ())) }
    }

    fn rebind(&mut self, domain: u16, port: u32) -> Result<(), Errno> {
        self.0.borrow_mut().push(Call::Rebind(domain, port));
        Calls::port(port)
    }

    fn close(&mut self, domain: u16) {
        self.0.borrow_mut().push(Call::Close(domain));
    }
}

/// A server.
pub fn shared(limits: Limits) -> Shared {
    with_rings(limits, |_| Box::new(Calls::default()))
}

/// A server with these rings.
fn with_rings(limits: Limits, rings: impl FnOnce(&Weak<RefCell<Store>>) -> Box<dyn Rings>) -> Shared {
    Rc::new_cyclic(|store| RefCell::new(Store::new(limits, rings(store))))
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
