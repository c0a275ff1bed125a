//! A limit on bytes per time: a bucket that fills steadily and is emptied by what is sent. Time is an argument.

const NANOSECONDS: u128 = 1_000_000_000;

/// How much a port may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// In the long run. Not 0.
    pub bytes_per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

impl Rate {
    /// A burst of a tenth of a second, and at least one large packet.
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second: bytes_per_second.max(1), burst: (bytes_per_second / 10).max(1 << 16) }
    }
}

/// The bucket. It may be emptied below nothing by its last packet, so that one larger than the burst isn't stuck for
/// ever; that is made up for before the next one.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// What may be sent, in bytes times nanoseconds per second, so that nothing is lost by rounding.
    level: i128,
    /// When it was filled last.
    filled: u64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: u64) -> Bucket {
        Bucket { rate, level: full(rate), filled: now }
    }

    /// When the next packet may be sent, if not now.
    ///
    /// # Errors
    /// The time, in nanoseconds.
    pub fn ready(&mut self, now: u64) -> Result<(), u64> {
        self.fill(now);
        if self.level > 0 {
            return Ok(());
        }
        let missing = self.level.unsigned_abs() + 1;
        let wait = missing.div_ceil(u128::from(self.rate.bytes_per_second));
        Err(now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// A packet is sent.
    pub fn take(&mut self, bytes: usize) {
        self.level -= bytes as i128 * NANOSECONDS as i128;
    }

    fn fill(&mut self, now: u64) {
        // A clock that goes back fills nothing.
        let passed = now.saturating_sub(self.filled);
        self.filled = self.filled.max(now);
        let more = i128::from(passed) * i128::from(self.rate.bytes_per_second);
        self.level = self.level.saturating_add(more).min(full(self.rate));
    }
}

fn full(rate: Rate) -> i128 {
    i128::from(rate.burst) * NANOSECONDS as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(Rate { bytes_per_second: 1000, burst: 500 }, 0);
        bucket.take(500);
        assert_eq!(bucket.ready(0), Err(1));
        assert_eq!(bucket.ready(1), Ok(()));
        bucket.take(1001);
        assert_eq!(
            bucket.ready(1),
            Err(1 + SECOND + SECOND / 1000),
            "a packet larger than what is left is made up for"
        );
        assert_eq!(bucket.ready(SECOND * 100), Ok(()));
        bucket.take(499);
        assert_eq!(bucket.ready(SECOND * 100), Ok(()), "a pause fills it to the burst and no further");
        bucket.take(1);
        assert!(bucket.ready(SECOND * 100).is_err());
    }

    proptest! {
        /// In no span of time does more pass than the rate, the burst and one packet; and whoever waits as told may send.
        #[test]
        fn never_more_than_the_rate(
            bytes_per_second in 1u64..1_000_000_000, burst in 1u64..1_000_000,
            steps in proptest::collection::vec((0u64..50_000_000, 1usize..65_536), 1..60),
        ) {
            let mut bucket = Bucket::new(Rate { bytes_per_second, burst }, 0);
            let (mut now, mut sent) = (0u64, 0u128);
            for (pause, bytes) in steps {
                now += pause;
                if let Err(later) = bucket.ready(now) {
                    prop_assert!(later > now);
                    now = later;
                    prop_assert_eq!(bucket.ready(now), Ok(()));
                }
                let bound = u128::from(burst) + u128::from(bytes_per_second) * u128::from(now) / NANOSECONDS;
                prop_assert!(sent <= bound + 65_536);
                bucket.take(bytes);
                sent += bytes as u128;
            }
        }
    }
}
