//! How much a domain may say. Pure.
//!
//! What is said goes through one serial line, which may take 90 microseconds for a byte, and nobody else in this domain works
//! meanwhile.

/// Bytes in a second that a domain can go on saying.
const RATE: u64 = 64 << 10;
/// Bytes that it can say at once when it was silent for some time.
const BURST: u64 = 32 << 10;
/// Nanoseconds for a byte.
const BYTE: u64 = 1_000_000_000 / RATE;

/// What a domain may say now. It grows with time.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// System time at which all that was said is paid for.
    paid: u64,
}

impl Budget {
    /// The full amount.
    pub const fn new() -> Budget {
        Budget { paid: 0 }
    }

    /// How many bytes may be said at system time `now`.
    pub fn left(&self, now: u64) -> usize {
        let owed = self.paid.saturating_sub(now) / BYTE;
        usize::try_from(BURST.saturating_sub(owed)).unwrap_or(0)
    }

    /// So many were said.
    pub fn spend(&mut self, now: u64, bytes: usize) {
        self.paid = self.paid.max(now).saturating_add(bytes as u64 * BYTE);
    }

    /// When at least a quarter may be said again.
    pub fn refilled(&self) -> u64 {
        self.paid.saturating_sub(BURST / 4 * 3 * BYTE)
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`BURST`] as a length.
    const FULL: usize = 32 << 10;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut budget = Budget::new();
        let start = 5_000_000_000;
        assert_eq!(budget.left(start), FULL);
        budget.spend(start, FULL);
        assert_eq!(budget.left(start), 0);
        let later = budget.refilled();
        assert!(budget.left(later) >= FULL / 4 - 1, "{}", budget.left(later));
        let mut said = 0;
        let mut now = start;
        while now < start + 10_000_000_000 {
            let bytes = budget.left(now).min(2048);
            budget.spend(now, bytes);
            said += bytes as u64;
            now += 1_000_000;
        }
        assert!((RATE * 10 - 4096..=RATE * 10 + 4096).contains(&said), "{said}");
    }

    #[test]
    fn silence_is_not_saved_up() {
        let budget = Budget::new();
        assert_eq!(budget.left(u64::MAX), FULL);
    }
}
