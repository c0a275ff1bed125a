//! How much of this domain's time another domain may take with what an honest one does once in a while, or never. Pure.
//!
//! Data goes in turns: whoever moves much of it gets no more turns than the others. Requests to XenStore, changes of a device's
//! state, and requests that are refused cost much more than data, for nothing that the domain gains: one that does nothing
//! else would slow down all others. So they are paid for with an allowance, which is enough to boot with, and then grows
//! slowly.

/// What a domain may take now. It grows with time.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// One in so many nanoseconds can be taken without end.
    share: u64,
    /// Nanoseconds that can be taken at once, after a while in which none was.
    burst: u64,
    /// System time at which all that was taken is paid for.
    paid: u64,
}

impl Default for Allowance {
    /// A hundredth, and 50 ms at once.
    fn default() -> Allowance {
        Allowance::one_in(100, 50_000_000)
    }
}

impl Allowance {
    /// One in `share` nanoseconds, and `burst` nanoseconds at once.
    pub const fn one_in(share: u64, burst: u64) -> Allowance {
        Allowance { share, burst, paid: 0 }
    }

    /// Whether the domain may have a turn at system time `now`.
    ///
    /// # Errors
    /// When it may, in system time.
    pub fn ready(&self, now: u64) -> Result<(), u64> {
        let from = self.paid.saturating_sub(self.burst * self.share);
        if from <= now { Ok(()) } else { Err(from) }
    }

    /// So many nanoseconds are taken at `now`.
    pub fn spend(&mut self, now: u64, nanoseconds: u64) {
        self.paid = self.paid.max(now).saturating_add(nanoseconds.saturating_mul(self.share));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHARE: u64 = 100;
    const BURST: u64 = 50_000_000;
    const SECOND: u64 = 1_000_000_000;
    const MOST: u64 = 2_000_000;

    #[test]
    fn a_burst_and_then_a_share() {
        let mut allowance = Allowance::default();
        let mut now = 5 * SECOND;
        for _ in 0..=BURST / MOST {
            assert_eq!(allowance.ready(now), Ok(()));
            allowance.spend(now, MOST);
        }
        for _ in 0..10 {
            let later = allowance.ready(now).unwrap_err();
            assert_eq!(later - now, MOST * SHARE);
            assert!(allowance.ready(later - 1).is_err());
            now = later;
            assert_eq!(allowance.ready(now), Ok(()));
            allowance.spend(now, MOST);
        }
        assert_eq!(allowance.ready(now + BURST * SHARE), Ok(()));
        assert_eq!(Allowance { paid: u64::MAX, ..allowance }.ready(u64::MAX), Ok(()));
    }

    proptest! {
        /// In no span of time more is taken than the burst, the share and one turn.
        #[test]
        fn never_more_than_the_share(turns in proptest::collection::vec((0u64..20_000_000, 0u64..3_000_000), 1..300)) {
            let (mut allowance, mut now, mut taken) = (Allowance::default(), 0, 0);
            for (pause, took) in turns {
                now += pause;
                if let Err(later) = allowance.ready(now) {
                    prop_assert!(later > now);
                    now = later;
                    prop_assert_eq!(allowance.ready(now), Ok(()));
                }
                prop_assert!(taken <= BURST + now / SHARE + 1 + 3_000_000);
                allowance.spend(now, took);
                taken += took;
            }
        }
    }
}
