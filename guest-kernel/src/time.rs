//! System time, in nanoseconds since the hypervisor started, and sleep.
//!
//! Two sources, best first: the time record in the shared page; the hypervisor's time leaf of CPUID, whose offset and
//! scale relate the TSC to system time as long as the TSC isn't emulated. Without either there is no clock, and
//! [`sleep`] yields once.

use crate::clock::{Clock, Scale};
use crate::record::Record;
use crate::{hypercall, probe, shared};
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::cpuid::xen_cpuid_leaf;

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Notes when the kernel started, for [`uptime`].
pub(crate) fn init() {
    STARTED.store(now().unwrap_or(0), Ordering::Relaxed);
}

/// System time now.
pub fn now() -> Option<u64> {
    let clock = shared::record().map(Record::clock).or_else(cpuid_clock)?;
    Some(clock.at(probe::rdtsc()))
}

/// Nanoseconds since this kernel started.
pub fn uptime() -> Option<u64> {
    Some(now()?.saturating_sub(STARTED.load(Ordering::Relaxed)))
}

/// Gives the CPU away for `nanoseconds`, or for one turn if there is no clock.
pub fn sleep(nanoseconds: u64) {
    let slept = now().map(|now| hypercall::poll(&[], now.saturating_add(nanoseconds)));
    if !matches!(slept, Some(Ok(_))) {
        let _ = hypercall::yield_now();
    }
}

/// The clock in the hypervisor's CPUID leaf 3, subleaf 1: system time at TSC 0, and the scale.
fn cpuid_clock() -> Option<Clock> {
    let leaf = probe::cpuid(xen_cpuid_leaf(3), 1);
    let offset = u64::from(leaf.ebx) << 32 | u64::from(leaf.eax);
    let shift = i8::try_from(leaf.edx.cast_signed()).ok()?;
    (leaf.ecx != 0).then_some(Clock { scale: Scale { multiplier: leaf.ecx, shift }, tsc: 0, system_time: offset })
}
