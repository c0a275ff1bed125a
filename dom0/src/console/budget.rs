//! How much a domain may say. Pure.
//!
//! What is said goes through one serial line, which may take 90 microseconds for a byte, and nobody else in this domain works
//! meanwhile. Counted is what the screen puts out for it, not what it wrote: a line's end alone is a whole line there.

/// Bytes in a second that a domain can go on saying behind the one in focus: a tenth of the line at most.
const BEHIND: u64 = 1 << 10;
/// The same in focus. Who sits there wants to read it, and can move on.
const IN_FOCUS: u64 = 4 << 10;
/// Bytes that it can say at once when it was silent for some time.
const BURST: u64 = 32 << 10;

/// What a domain may say now. It grows with time.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Nanoseconds for a byte.
    byte: u64,
    /// System time at which all that was said is paid for.
    paid: u64,
}

impl Budget {
    /// The full amount for what is said in focus.
    pub const fn in_focus() -> Budget {
        Budget { byte: 1_000_000_000 / IN_FOCUS, paid: 0 }
    }

    /// The full amount for what is said behind the one in focus.
    pub const fn behind() -> Budget {
        Budget { byte: 1_000_000_000 / BEHIND, paid: 0 }
    }

    /// How many bytes may be said at system time `now`.
    pub fn left(&self, now: u64) -> usize {
        let owed = self.paid.saturating_sub(now) / self.byte;
        usize::try_from(BURST.saturating_sub(owed)).unwrap_or(0)
    }

    /// So many were said.
    pub fn spend(&mut self, now: u64, bytes: usize) {
        self.paid = self.paid.max(now).saturating_add((bytes as u64).saturating_mul(self.byte));
    }

    /// When at least a quarter may be said again.
    pub fn refilled(&self) -> u64 {
        self.paid.saturating_sub(BURST / 4 * 3 * self.byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`BURST`] as a length.
    const FULL: usize = 32 << 10;

    #[test]
    fn a_burst_and_then_the_rate() {
        for (mut budget, rate) in [(Budget::in_focus(), IN_FOCUS), (Budget::behind(), BEHIND)] {
            let start = 5_000_000_000;
            assert_eq!(budget.left(start), FULL);
            budget.spend(start, FULL);
            assert_eq!(budget.left(start), 0);
            let later = budget.refilled();
            assert!(budget.left(later) >= FULL / 4 - 1, "{}", budget.left(later));
            let mut said = 0;
            let mut now = start;
            while now < start + 100_000_000_000 {
                let bytes = budget.left(now).min(2048);
                budget.spend(now, bytes);
                said += bytes as u64;
                now += 1_000_000;
            }
            assert!((rate * 100 - 4096..=rate * 100 + 4096).contains(&said), "{said}");
        }
    }

    /// Nanoseconds that a byte takes on a serial line of 115,200 baud.
    const LINE: u64 = 90_000;

    // Most of the line is left to others.
    const _: () = assert!(BEHIND * LINE < 100_000_000 && IN_FOCUS * LINE < 500_000_000);

    #[test]
    fn silence_is_not_saved_up() {
        assert_eq!(Budget::behind().left(u64::MAX), FULL);
    }
}
