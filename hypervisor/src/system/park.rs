//! vCPUs that may not run: those that are down (`vcpu_op`), and all of a paused domain.
//!
//! A vCPU moves to its domain's [`ParkedList`] when the CPU that ran or dequeued it notices that it may not run. Whoever
//! lifts the reason does so first and then checks this list. Whoever parks a vCPU re-checks the reason with the lock held.
//! So no runnable vCPU is left here.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::runner::Runner;
use super::{Domain, queues};
use crate::addr::VcpuId;
use crate::domain::link::VcpuLink;

/// The vCPUs of a domain that may not run. There is room for all.
#[expect(clippy::vec_box, reason = "a vCPU stays where it is while it moves between its places")]
pub struct ParkedList(Vec<Box<Runner>>);

impl ParkedList {
    /// None, and room for so many.
    pub fn with_capacity(vcpus: u32) -> ParkedList {
        ParkedList(Vec::with_capacity(vcpus as usize))
    }

    /// Adds one that was never anywhere else.
    pub fn add(&mut self, runner: Box<Runner>) {
        self.0.push(runner);
    }

    fn take(&mut self, which: impl Fn(&Runner) -> bool) -> Option<Box<Runner>> {
        let index = self.0.iter().position(|runner| which(runner))?;
        Some(self.0.swap_remove(index))
    }
}

impl Domain {
    /// May this vCPU run?
    #[inline]
    pub fn may_run(&self, link: &VcpuLink) -> bool {
        link.is_up() && self.paused.load(Ordering::SeqCst) == 0
    }

    /// Takes a vCPU that may not run, to work on it. It must be given back to [`park`].
    pub fn take_parked(&self, id: VcpuId) -> Option<Box<Runner>> {
        self.parked.lock().take(|runner| runner.vcpu.id == id)
    }
}

/// Parks a vCPU that may not run, and is on no CPU. It comes back if it may run after all, or if its domain has ended.
pub fn park(runner: Box<Runner>) -> Option<Box<Runner>> {
    let domain = runner.domain.clone();
    let mut parked = domain.parked.lock();
    if domain.is_ending() || domain.may_run(runner.link()) {
        return Some(runner);
    }
    parked.add(runner);
    None
}

/// Sends all parked vCPUs that may run now to their CPUs.
pub fn unpark(domain: &Domain) {
    loop {
        let runner = domain.parked.lock().take(|runner| domain.may_run(runner.link()));
        match runner {
            Some(runner) => queues::enqueue(runner),
            None => return,
        }
    }
}

/// Takes out one parked vCPU of a domain that has ended; `None` if there is none left.
pub fn take_any(domain: &Domain) -> Option<Box<Runner>> {
    domain.parked.lock().take(|_| true)
}
