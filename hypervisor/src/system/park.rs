//! vCPUs that may not run: those that are down (`vcpu_op`), and all of a paused domain.
//!
//! Such a vCPU belongs to its domain's [`Parked`], from the moment at which the CPU that ran it, or took it from a queue,
//! notices. Who lets it run again changes what keeps it first and looks here afterwards; who parks it looks again at what
//! keeps it with the lock held. So a vCPU that may run is never left here.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::runner::Runner;
use super::{Domain, cpu};
use crate::addr::VcpuId;
use crate::domain::link::VcpuLink;

/// The vCPUs of a domain that may not run. There is room for all.
#[expect(clippy::vec_box, reason = "a vCPU stays where it is while it moves between its places")]
pub struct Parked(Vec<Box<Runner>>);

impl Parked {
    /// None, and room for so many.
    pub fn with_capacity(vcpus: u32) -> Parked {
        Parked(Vec::with_capacity(vcpus as usize))
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
            Some(runner) => cpu::enqueue(runner),
            None => return,
        }
    }
}

/// Takes out all parked vCPUs of a domain that has ended, one by one.
pub fn take_any(domain: &Domain) -> Option<Box<Runner>> {
    domain.parked.lock().take(|_| true)
}
