//! The one-shot timer of a vCPU, and sleeping by it.

use crate::{event, hypercall, time, vcpu};
use core::sync::atomic::{AtomicU32, Ordering};
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_TIMER;
use pv_abi::vcpu::SingleshotFlags;

/// How often the timer of each vCPU fired.
static FIRED: [AtomicU32; vcpu::LIMIT] = [const { AtomicU32::new(0) }; vcpu::LIMIT];

/// Gives this vCPU a port for its timers, and stops the periodic one, which runs from the start.
///
/// # Errors
/// The hypervisor's; `EEXIST` if the vCPU has its port.
pub fn init() -> Result<u32, Errno> {
    let id = vcpu::current();
    // First this: a tick that came in between would count as one of the timers to come.
    hypercall::stop_periodic_timer(id)?;
    event::bind_virq(VIRQ_TIMER, id, |_| _ = FIRED[vcpu::current() as usize].fetch_add(1, Ordering::SeqCst))
}

/// How often timers fired on this vCPU, since [`init`].
pub fn fired() -> u32 {
    FIRED[vcpu::current() as usize].load(Ordering::SeqCst)
}

/// Sleeps until system time `at`, in nanoseconds; other events are handled meanwhile.
///
/// # Errors
/// The hypervisor's, and `ENOSYS` without a clock.
pub fn sleep_until(at: u64) -> Result<(), Errno> {
    let were_enabled = event::disable();
    let slept = loop {
        match time::now() {
            None => break Err(Errno::ENOSYS),
            Some(now) if now >= at => break Ok(()),
            Some(_) => {}
        }
        // Set again after each wake: the hypervisor may fire a little early.
        let set = hypercall::set_singleshot_timer(vcpu::current(), at, SingleshotFlags::empty());
        if let Err(errno) = set.and_then(|_| hypercall::block()) {
            break Err(errno);
        }
        event::disable();
    };
    if were_enabled {
        event::enable();
    }
    slept
}
