//! The live rings, each of which is a service.

use super::Limits;
use super::link::{Line, Link, Turn};
use super::local::Shared;
use super::server::{ConnectionId, Rings, Store, Wake};
use crate::contain::contain;
use crate::service::{Allowance, Full, Next, Port, Service, Services, Waker};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use core::cell::RefCell;
use guest_kernel::control::foreign::Foreign;
use guest_kernel::store::ring::Interface;
use log::error;
use pv_abi::errno::Errno;

/// What a panic costs.
const PANIC_COST: u64 = 10_000_000;

/// A domain's ring: the mapped page, and the port. Both are given back when it is dropped.
pub struct Wire {
    domain: u16,
    page: Foreign,
    /// `None` when a new one couldn't be connected.
    port: Option<Port>,
    waker: Waker,
}

impl Line for Wire {
    fn page(&self) -> &Interface {
        // SAFETY: the interface is made of atomics, and the frame is shown as long as `self` lives.
        unsafe { self.page.shared::<Interface>() }
    }

    fn notify(&self) {
        if let Some(port) = &self.port {
            port.notify();
        }
    }
}

/// A domain's connection over its ring.
type Ring = Link<Wire>;

/// The rings of all domains that are introduced.
#[derive(Clone, Default)]
pub struct Open(Rc<RefCell<BTreeMap<u16, Rc<RefCell<Ring>>>>>);

impl Open {
    /// Has a domain's connection panic when it next has a request, to see what becomes of the domain. Whether it has one.
    pub fn doom(&self, domain: u16) -> bool {
        self.0.borrow().get(&domain).map(|ring| ring.borrow_mut().doom()).is_some()
    }
}

/// Connects rings, each of which is a service.
struct Connector {
    store: Weak<RefCell<Store>>,
    services: Services,
    open: Open,
}

/// A server whose rings are services, and these rings.
pub fn start(services: &Services) -> (Shared, Open) {
    let open = Open::default();
    let store = Rc::new_cyclic(|store| {
        let rings = Connector { store: store.clone(), services: services.clone(), open: open.clone() };
        RefCell::new(Store::new(Limits::default(), Box::new(rings)))
    });
    (store, open)
}

impl Connector {
    fn connect(&self, id: ConnectionId, domain: u16, frame: u64, port: u32) -> Result<Wake, Unconnected> {
        let store = self.store.upgrade().ok_or(Errno::EIO)?;
        let (ring, waker) = self.services.add(|waker| {
            let page = Foreign::map(domain, &[frame]).map_err(|_| Errno::EINVAL)?;
            let port = Some(Port::connect(domain, port, waker)?);
            let wire = Wire { domain, page, port, waker: waker.clone() };
            let ring = Rc::new(RefCell::new(Link::new(store, id, wire)));
            let turns = Turns { ring: Rc::downgrade(&ring), allowance: Allowance::default() };
            Ok::<_, Unconnected>((turns, (ring, waker.clone())))
        })?;
        self.open.0.borrow_mut().insert(domain, ring);
        Ok(Box::new(move || waker.wake()))
    }
}

impl Rings for Connector {
    fn open(&mut self, id: ConnectionId, domain: u16, frame: u64, port: u32) -> Result<Wake, Errno> {
        self.connect(id, domain, frame, port).map_err(|Unconnected(errno)| errno)
    }

    fn rebind(&mut self, domain: u16, port: u32) -> Result<(), Errno> {
        let open = self.open.0.borrow();
        let mut ring = open.get(&domain).ok_or(Errno::ENOENT)?.borrow_mut();
        let wire = ring.line_mut();
        // The old one first: it may be the same.
        wire.port = None;
        wire.port = Some(Port::connect(domain, port, &wire.waker)?);
        Ok(())
    }

    fn close(&mut self, domain: u16) {
        // With it goes its service, which finds it gone.
        self.open.0.borrow_mut().remove(&domain);
    }
}

/// Why a ring can't be a service.
struct Unconnected(Errno);

impl From<Full> for Unconnected {
    fn from(Full: Full) -> Unconnected {
        Unconnected(Errno::ENOSPC)
    }
}

impl From<Errno> for Unconnected {
    fn from(errno: Errno) -> Unconnected {
        Unconnected(errno)
    }
}

/// Gives a ring its turns as long as there is one, and its domain has time left.
struct Turns {
    ring: Weak<RefCell<Ring>>,
    allowance: Allowance,
}

impl Service for Turns {
    fn work(&mut self, now: u64) -> Next {
        let Some(ring) = self.ring.upgrade() else { return Next::End };
        if let Err(later) = self.allowance.ready(now) {
            return Next::WaitUntil(later);
        }
        let mut ring = ring.borrow_mut();
        // First this: an event that comes from here on wakes the service again.
        let _ = ring.line().port.as_ref().map(Port::rang);
        let before = ring.spent();
        let turn = contain(|| ring.turn()).unwrap_or_else(|panicked| {
            ring.cut_off();
            error!("d{}: its connection to XenStore is closed: {panicked}", ring.line().domain);
            self.allowance.spend(now, PANIC_COST);
            // It may have asked for a new one.
            Turn::More
        });
        self.allowance.spend(now, ring.spent() - before);
        match turn {
            Turn::More => Next::More,
            Turn::Wait => Next::Wait,
            Turn::Gone => Next::End,
        }
    }
}
