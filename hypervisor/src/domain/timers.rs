//! The timers of a vCPU: one that fires once, one that fires again and again. Both raise `VIRQ_TIMER` (`vcpu.h`).

use crate::time::MILLISECOND;

/// Shortest period that a guest may ask for, in nanoseconds.
pub const MIN_PERIOD: u64 = MILLISECOND;
/// The longest: a century and a half, as in Xen.
pub const MAX_PERIOD: u64 = u64::MAX >> 2;

/// When a vCPU's timers fire next, in system time. They belong to the vCPU and move with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// The one-shot timer; `u64::MAX`: not set.
    once: u64,
    /// The periodic timer's next time; `u64::MAX`: stopped.
    next: u64,
    /// Its period.
    period: u64,
}

impl Default for Timers {
    /// The one-shot timer is not set; the periodic one begins with 100 Hz, as guests of old expect.
    fn default() -> Timers {
        Timers { once: u64::MAX, next: 0, period: 10 * MILLISECOND }
    }
}

impl Timers {
    /// Sets the one-shot timer. A time that has passed fires at once.
    #[inline]
    pub fn set_once(&mut self, at: u64) {
        self.once = at;
    }

    /// Stops the one-shot timer.
    #[inline]
    pub fn stop_once(&mut self) {
        self.once = u64::MAX;
    }

    /// Starts the periodic timer; `period` is at least [`MIN_PERIOD`].
    pub fn set_period(&mut self, period: u64, now: u64) {
        (self.period, self.next) = (period, now.saturating_add(period));
    }

    /// Starts the periodic timer, or stops it.
    pub fn change_period(&mut self, period: Option<u64>, now: u64) {
        match period {
            Some(period) => self.set_period(period, now),
            None => self.stop_period(),
        }
    }

    /// Stops the periodic timer.
    pub fn stop_period(&mut self) {
        self.next = u64::MAX;
    }

    /// When the first of the two fires, if ever.
    #[inline]
    pub fn deadline(&self) -> Option<u64> {
        Some(self.once.min(self.next)).filter(|&at| at != u64::MAX)
    }

    /// Whether one has fired by `now`. Periods that were missed count once.
    pub fn expire(&mut self, now: u64) -> bool {
        let mut fired = false;
        if self.once <= now {
            self.once = u64::MAX;
            fired = true;
        }
        if self.next <= now {
            // In step with the earlier ones, without a loop over those that were missed.
            let missed = (now - self.next) / self.period.max(MIN_PERIOD);
            self.next = self.next.saturating_add((missed + 1).saturating_mul(self.period.max(MIN_PERIOD)));
            fired = true;
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_deadline_counts() {
        let mut timers = Timers::default();
        timers.stop_period();
        assert_eq!(timers.deadline(), None);
        timers.set_once(500);
        timers.set_period(MIN_PERIOD, 100);
        assert_eq!(timers.deadline(), Some(500));
        assert!(!timers.expire(499) && timers.expire(500) && !timers.expire(501));
        assert_eq!(timers.deadline(), Some(100 + MIN_PERIOD));
        timers.set_once(u64::MAX);
        timers.stop_period();
        assert_eq!(timers.deadline(), None);
    }

    proptest! {
        /// A timer looked at now and then fires once for all the periods since, stays in step, and is never early.
        #[test]
        fn periods_stay_in_step(
            period in MIN_PERIOD..100 * MIN_PERIOD,
            start in 0u64..1 << 40,
            gaps in proptest::collection::vec(0u64..1 << 30, 1..50),
        ) {
            let mut timers = Timers::default();
            timers.set_period(period, start);
            let (mut now, mut due) = (start, start + period);
            for gap in gaps {
                now += gap;
                prop_assert_eq!(timers.expire(now), now >= due);
                while due <= now {
                    due += period;
                }
                prop_assert_eq!(timers.deadline(), Some(due));
            }
        }
    }
}
