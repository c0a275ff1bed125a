//! System time: nanoseconds since the clock's start, from the TSC.

use super::SECOND;
use super::scale::{GuestScale, Scale};

/// A clock that runs with the TSC. It never changes after it was made, so all CPUs share it without a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    hz: u64,
    base_tsc: u64,
    to_ns: Scale,
    to_ticks: Scale,
    guest: GuestScale,
}

/// What a guest needs to tell system time from the TSC: the variable part of the ABI's `vcpu_time_info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestRecord {
    /// `tsc_timestamp`: a TSC value.
    pub tsc_timestamp: u64,
    /// `system_time`: the system time at that value, in nanoseconds.
    pub system_time: u64,
    /// `tsc_to_system_mul` and `tsc_shift`.
    pub scale: GuestScale,
}

impl GuestRecord {
    /// What a guest computes from the record.
    pub const fn time_at(&self, tsc: u64) -> u64 {
        self.system_time.saturating_add(self.scale.apply(tsc.saturating_sub(self.tsc_timestamp)))
    }
}

impl Clock {
    /// Lowest and highest TSC frequency that is believed, in Hz.
    pub const PLAUSIBLE: core::ops::RangeInclusive<u64> = 1_000_000..=16_000_000_000;

    /// A clock that reads 0 at `base_tsc` and runs at `hz` ticks per second. `None` if that is not plausible.
    pub fn new(hz: u64, base_tsc: u64) -> Option<Clock> {
        if !Self::PLAUSIBLE.contains(&hz) {
            return None;
        }
        Some(Clock {
            hz,
            base_tsc,
            to_ns: Scale::new(hz, SECOND)?,
            to_ticks: Scale::new(SECOND, hz)?,
            guest: GuestScale::new(hz)?,
        })
    }

    /// TSC ticks per second.
    pub const fn hz(&self) -> u64 {
        self.hz
    }

    /// TSC ticks per millisecond, as in Xen's `cpu_khz`.
    pub const fn khz(&self) -> u64 {
        self.hz / 1000
    }

    /// System time in nanoseconds when the TSC reads `tsc`. A TSC from before the clock's start counts as the start.
    #[inline]
    pub const fn at(&self, tsc: u64) -> u64 {
        self.to_ns.apply(tsc.saturating_sub(self.base_tsc))
    }

    /// The TSC value of a deadline: the clock reads `deadline` or later then, by a tick or two at most.
    #[inline]
    pub const fn tsc_at(&self, deadline: u64) -> u64 {
        // `to_ns` rounds its factor up, so `at` is never late; one tick more makes up for the rounding here.
        self.base_tsc.saturating_add(self.ticks(deadline)).saturating_add(1)
    }

    /// TSC ticks in `ns` nanoseconds, rounded up or down.
    #[inline]
    pub const fn ticks(&self, ns: u64) -> u64 {
        self.to_ticks.apply(ns)
    }

    /// The record for a guest whose TSC reads `tsc` now.
    #[inline]
    pub const fn guest_record(&self, tsc: u64) -> GuestRecord {
        GuestRecord { tsc_timestamp: tsc, system_time: self.at(tsc), scale: self.guest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR: u64 = 366 * 86400 * SECOND;

    fn clock() -> impl Strategy<Value = Clock> {
        (Clock::PLAUSIBLE, 0u64..1 << 62).prop_map(|(hz, base)| Clock::new(hz, base).unwrap())
    }

    proptest! {
        #[test]
        fn reads_exact_nanoseconds_for_years(clock in clock(), seconds in 0u64..20 * 366 * 86400, part in 0u64..16_000_000_000) {
            let ticks = u128::from(seconds) * u128::from(clock.hz) + u128::from(part % clock.hz);
            prop_assume!(ticks < 1 << 62);
            let exact = ticks * u128::from(SECOND) / u128::from(clock.hz);
            let got = u128::from(clock.at(clock.base_tsc + u64::try_from(ticks).unwrap()));
            prop_assert!(got == exact || got == exact + 1, "{} for {}", got, exact);
        }

        #[test]
        fn never_runs_backwards(clock in clock(), a in any::<u64>(), b in any::<u64>()) {
            prop_assert!(clock.at(a.min(b)) <= clock.at(a.max(b)));
        }

        #[test]
        fn a_deadline_is_never_early_and_hardly_late(clock in clock(), deadline in 0u64..3 * YEAR) {
            let tsc = clock.tsc_at(deadline);
            prop_assert!(clock.at(tsc) >= deadline);
            // Two ticks earlier is too early, but for the nanosecond that the factors' rounding is worth.
            prop_assert!(clock.at(tsc - 2.min(tsc)) <= deadline + 1);
        }

        /// A guest that reads its clock just before and just after a renewal of its record sees no step back, and is
        /// never far behind.
        #[test]
        fn a_guest_record_is_behind_by_little(clock in clock(), at in 0u64..1 << 60, later in 0u64..10 * SECOND) {
            let then = clock.base_tsc + at;
            let now = then + clock.ticks(later);
            let (old, ours) = (clock.guest_record(then).time_at(now), clock.guest_record(now).time_at(now));
            prop_assert_eq!(ours, clock.at(now));
            prop_assert!(old <= ours);
            prop_assert!(ours - old <= 40, "behind by {}", ours - old);
        }
    }

    #[test]
    fn refuses_what_no_tsc_does() {
        assert_eq!(Clock::new(0, 0), None);
        assert_eq!(Clock::new(999_999, 0), None);
        assert_eq!(Clock::new(u64::MAX, 0), None);
    }

    #[test]
    fn before_the_start_it_reads_zero() {
        let clock = Clock::new(SECOND, 1000).unwrap();
        assert_eq!((clock.at(0), clock.at(1000), clock.at(1007), clock.khz()), (0, 0, 7, 1_000_000));
    }
}
