//! Reading the time: the TSC and the clock made of it, its calibration, the CMOS clock.

pub(super) mod calibrate;
mod rtc;

use spin::Once;

use crate::time::Clock;

pub(super) use rtc::read as read_rtc;

static CLOCK: Once<Clock> = Once::new();

/// The time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: reads a counter; every 64-bit CPU has it and CR4.TSD doesn't bind ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The system clock.
///
/// # Panics
/// Before [`crate::arch::boot::early`] has found out the TSC's rate.
#[inline]
pub fn clock() -> &'static Clock {
    CLOCK.get().expect("the TSC is calibrated first of all")
}

/// System time: nanoseconds since the hypervisor's entry; 0 before the TSC's rate is known.
#[inline]
pub fn now() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.at(tsc()))
}

pub(super) fn set_clock(clock: Clock) {
    CLOCK.call_once(|| clock);
}

/// Waits, for a delay that hardware asks for.
pub fn spin_for(nanoseconds: u64) {
    spin_until(nanoseconds, || false);
}

/// Waits until `done` or the time is over; returns whether it is done.
pub fn spin_until(nanoseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let ticks = clock().ticks(nanoseconds);
    let start = tsc();
    loop {
        if done() {
            return true;
        }
        if tsc().wrapping_sub(start) > ticks {
            return false;
        }
        core::hint::spin_loop();
    }
}
