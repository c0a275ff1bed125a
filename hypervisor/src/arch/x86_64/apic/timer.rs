//! The local APIC's timer: one interrupt ([`vectors::TIMER`]) at a TSC value.

use spin::Once;
use x86_64::registers::model_specific::Msr;

use super::local::{self, MASKED, register};
use crate::arch::cpu_features::{self, Features};
use crate::arch::time::{self, calibrate};
use crate::arch::vectors;
use crate::time::{SECOND, Scale};

/// IA32_TSC_DEADLINE; 0 disarms.
const TSC_DEADLINE: u32 = 0x6e0;
/// Timer entry of the local vector table: wait for a TSC value.
const DEADLINE_MODE: u32 = 0b10 << 17;
/// Divide configuration: count at the full rate.
const DIVIDE_BY_1: u32 = 0b1011;
/// How long the counting timer's rate is measured, in nanoseconds.
const WINDOW: u64 = 1_000_000;

/// How the timers of all CPUs work.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// They wait for a TSC value.
    Deadline,
    /// They count down, at this many counts per TSC tick.
    Count(Scale),
}

static MODE: Once<Mode> = Once::new();

/// Finds out how the timers work and, where they count, how fast. Called once, with the local APIC on.
pub(super) fn calibrate() {
    let mode =
        if cpu_features::get().contains(Features::TSC_DEADLINE) { Some(Mode::Deadline) } else { counting_mode() };
    match mode {
        Some(mode) => {
            MODE.call_once(|| mode);
            init_this_cpu();
        }
        None => log::error!("apic: the local APIC timer does not count; timers will not work"),
    }
}

fn counting_mode() -> Option<Mode> {
    let (apic, clock) = (local::get(), time::clock());
    apic.write(register::DIVIDE, DIVIDE_BY_1);
    apic.write(register::TIMER, MASKED | u32::from(vectors::TIMER));
    apic.write(register::INITIAL_COUNT, u32::MAX);
    let hz = calibrate::against_tsc(clock, WINDOW, || apic.read(register::CURRENT_COUNT));
    apic.write(register::INITIAL_COUNT, 0);
    let hz = hz.filter(|&hz| hz >= SECOND / 1000)?;
    log::debug!("apic: timer counts at {} kHz", hz / 1000);
    Scale::new(clock.hz(), hz).map(Mode::Count)
}

/// Prepares this CPU's timer, disarmed.
pub(super) fn init_this_cpu() {
    let apic = local::get();
    match MODE.get() {
        Some(Mode::Deadline) => {
            apic.write(register::TIMER, DEADLINE_MODE | u32::from(vectors::TIMER));
            // The write above goes to memory in xAPIC mode, and must not be passed by one to the deadline register.
            // SDM volume 3, 11.5.4.1.
            // SAFETY: a fence.
            unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
        }
        Some(Mode::Count(_)) => {
            apic.write(register::DIVIDE, DIVIDE_BY_1);
            apic.write(register::TIMER, vectors::TIMER.into());
        }
        None => {}
    }
    set_timer(None);
}

/// Arms this CPU's timer for a system time in nanoseconds ([`time::now`]), or disarms it. An earlier setting is
/// forgotten.
///
/// A deadline that has passed interrupts at once. A far one (seconds, by the timer's rate) may interrupt too early,
/// so the handler looks at the clock and arms again.
#[inline]
pub fn set_timer(deadline: Option<u64>) {
    let deadline = deadline.map(|nanoseconds| time::clock().tsc_at(nanoseconds));
    match MODE.get() {
        Some(Mode::Deadline) => {
            // SAFETY: CPUID says that the register exists. 0 disarms; no deadline is 0, see `Clock::tsc_at`.
            unsafe { Msr::new(TSC_DEADLINE).write(deadline.unwrap_or(0)) };
        }
        Some(Mode::Count(scale)) => {
            let count = deadline.map_or(0, |tsc| {
                let counts = scale.apply(tsc.saturating_sub(time::tsc())).saturating_add(1);
                u32::try_from(counts).unwrap_or(u32::MAX)
            });
            local::get().write(register::INITIAL_COUNT, count);
        }
        None => {}
    }
}
