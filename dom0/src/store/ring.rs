//! The live rings, each of which is a service.

use super::link::{Line, Link, Turn};
use super::local::Shared;
use crate::contain::contain;
use crate::service::{Allowance, Next, Port, Service, Waker};
use alloc::rc::Weak;
use core::cell::RefCell;
use guest_kernel::control::Ring as Place;
use guest_kernel::control::foreign::Foreign;
use guest_kernel::store::ring::Interface;
use log::error;
use pv_abi::errno::Errno;

/// What a request or an event costs its domain, in nanoseconds. Not what it took: on a busy machine that is anything.
const MESSAGE_COST: u64 = 50_000;
/// What a panic costs.
const PANIC_COST: u64 = 10_000_000;

/// A domain's ring: the mapped page, and the port. Both are given back when it is dropped.
pub struct Wire {
    domain: u16,
    page: Foreign,
    port: Port,
}

impl Line for Wire {
    fn page(&self) -> &Interface {
        // SAFETY: the interface is made of atomics, and the frame is shown as long as `self` lives.
        unsafe { self.page.shared::<Interface>() }
    }

    fn notify(&self) {
        self.port.notify();
    }
}

/// A domain's connection over its ring.
pub type Ring = Link<Wire>;

impl Ring {
    /// Introduces a new domain, whose ring and port are at `place`.
    ///
    /// # Errors
    /// Those of [`Store::introduce`](super::Store::introduce) and of the hypervisor; `ENOMEM` if the page can't be mapped.
    pub fn connect(store: &Shared, domain: u16, place: Place, waker: &Waker) -> Result<Ring, Errno> {
        let page = Foreign::map(domain, &[place.frame]).map_err(|_| Errno::ENOMEM)?;
        let port = Port::connect(domain, place.port, waker)?;
        let waker = waker.clone();
        Link::introduce(store, domain, Wire { domain, page, port }, move || waker.wake())
    }
}

/// Gives a ring its turns as long as there is one, and its domain has time left.
pub struct Turns {
    ring: Weak<RefCell<Ring>>,
    allowance: Allowance,
}

impl Turns {
    /// For this ring.
    pub fn new(ring: Weak<RefCell<Ring>>) -> Turns {
        Turns { ring, allowance: Allowance::default() }
    }
}

impl Service for Turns {
    fn work(&mut self, now: u64) -> Next {
        let Some(ring) = self.ring.upgrade() else { return Next::End };
        if let Err(later) = self.allowance.ready(now) {
            return Next::WaitUntil(later);
        }
        let mut ring = ring.borrow_mut();
        // First this: an event that comes from here on wakes the service again.
        ring.line().port.rang();
        let before = ring.messages();
        let turn = contain(|| ring.turn()).unwrap_or_else(|panicked| {
            ring.cut_off();
            error!("d{}: its connection to XenStore is closed: {panicked}", ring.line().domain);
            self.allowance.spend(now, PANIC_COST);
            // It may have asked for a new one.
            Turn::More
        });
        self.allowance.spend(now, (ring.messages() - before) * MESSAGE_COST);
        match turn {
            Turn::More => Next::More,
            Turn::Wait => Next::Wait,
            Turn::Gone => Next::End,
        }
    }
}
