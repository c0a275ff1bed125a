//! Marks: which services have something to do. Pure.
//!
//! They are atomics, because event handlers set them in the middle of anything.

use core::sync::atomic::{AtomicU16, AtomicU64, Ordering::SeqCst};

/// Ports that can belong to a service: those of 2-level delivery.
pub const PORTS: u32 = pv_abi::event::EVTCHN_2L_NR_CHANNELS;
/// Most services at a time.
pub(super) const SERVICES: usize = 1024;
/// The owner of a port that has none.
const NOBODY: u16 = u16::MAX;

/// A bit for each service and for each port.
pub struct Marks {
    ready: [AtomicU64; SERVICES / 64],
    rung: [AtomicU64; PORTS as usize / 64],
    owner: [AtomicU16; PORTS as usize],
}

impl Marks {
    /// Nobody has anything to do, and no port belongs to anybody.
    pub const fn new() -> Marks {
        Marks {
            ready: [const { AtomicU64::new(0) }; SERVICES / 64],
            rung: [const { AtomicU64::new(0) }; PORTS as usize / 64],
            owner: [const { AtomicU16::new(NOBODY) }; PORTS as usize],
        }
    }

    /// An event came at a port: its service is ready. For event handlers.
    pub fn ring(&self, port: u32) {
        let Some(owner) = self.owner.get(port as usize) else { return };
        // First what the service will look for, then that it is to look.
        self.rung[port as usize / 64].fetch_or(1 << (port % 64), SeqCst);
        let owner = owner.load(SeqCst);
        if owner != NOBODY {
            self.wake(owner);
        }
    }

    /// Whether an event came at a port since the last time it was asked.
    pub fn take_rung(&self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        self.rung.get(port as usize / 64).is_some_and(|word| word.fetch_and(!bit, SeqCst) & bit != 0)
    }

    /// Gives a port to a service, or to nobody. What came for the owner before is forgotten.
    pub fn set_owner(&self, port: u32, service: Option<&Waker>) {
        if let Some(owner) = self.owner.get(port as usize) {
            owner.store(service.map_or(NOBODY, |waker| waker.service), SeqCst);
            self.take_rung(port);
        }
    }

    fn wake(&self, service: u16) {
        self.ready[usize::from(service) / 64].fetch_or(1 << (service % 64), SeqCst);
    }

    /// Whether a service is ready; from now on it isn't.
    pub(super) fn take_ready(&self, service: u16) -> bool {
        let bit = 1 << (service % 64);
        let word = &self.ready[usize::from(service) / 64];
        word.load(SeqCst) & bit != 0 && word.fetch_and(!bit, SeqCst) & bit != 0
    }

    /// Whether any service is ready.
    pub(super) fn any_ready(&self) -> bool {
        self.ready.iter().any(|word| word.load(SeqCst) != 0)
    }
}

impl Default for Marks {
    fn default() -> Marks {
        Marks::new()
    }
}

/// Wakes a service.
#[derive(Clone)]
pub struct Waker {
    marks: &'static Marks,
    service: u16,
}

impl Waker {
    pub(super) const fn new(marks: &'static Marks, service: u16) -> Waker {
        Waker { marks, service }
    }

    /// Gives the service a turn soon.
    pub fn wake(&self) {
        self.marks.wake(self.service);
    }

    pub(super) const fn service(&self) -> u16 {
        self.service
    }
}
