//! What a domain may do with something that is scarce for all: so much at once, and so much in each second after that.

use core::sync::atomic::{AtomicU64, Ordering};

use super::SECOND;

/// How much has been taken, by any number of CPUs.
#[derive(Default, Debug)]
pub struct Allowance {
    /// In all: counts no further than the stock.
    taken: AtomicU64,
    /// A second, above [`AMOUNT_BITS`] bits for what was taken in it since the stock was used up.
    recent: AtomicU64,
}

const AMOUNT_BITS: u32 = 24;
const MOST: u64 = (1 << AMOUNT_BITS) - 1;

impl Allowance {
    /// Takes `amount` at system time `now` in nanoseconds, of a stock of `stock` and then `per_second`. What was taken of
    /// this second with it, while that is no more than `per_second` (0 while the stock lasts); else `None`.
    pub fn take(&self, now: u64, amount: u64, stock: u64, per_second: u64) -> Option<u64> {
        let of_stock = |taken: u64| taken.checked_add(amount).filter(|sum| *sum <= stock);
        if self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, of_stock).is_ok() {
            return Some(0);
        }
        let second = now / SECOND;
        let add = |recent: u64| {
            let taken = if recent >> AMOUNT_BITS == second { recent & MOST } else { 0 };
            // Saturated: a carry would make another second of it.
            second << AMOUNT_BITS | taken.saturating_add(amount).min(MOST)
        };
        let before = self.recent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |recent| Some(add(recent)));
        let taken = add(before.unwrap_or_else(|recent| recent)) & MOST;
        (taken <= per_second).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_and_then_so_much_in_a_second() {
        let allowance = Allowance::default();
        assert_eq!(allowance.take(5 * SECOND, 60, 100, 10), Some(0));
        assert_eq!(allowance.take(5 * SECOND, 50, 100, 10), None, "too much for either");
        assert_eq!(allowance.take(6 * SECOND, 40, 100, 10), Some(0), "the stock waits");
        assert_eq!(allowance.take(6 * SECOND, 4, 100, 10), Some(4));
        assert_eq!(allowance.take(6 * SECOND, 6, 100, 10), Some(10));
        assert_eq!(allowance.take(7 * SECOND - 1, 1, 100, 10), None);
        assert_eq!(allowance.take(7 * SECOND, 10, 100, 10), Some(10));
    }

    #[test]
    fn no_number_of_attempts_makes_another_second_of_it() {
        let allowance = Allowance::default();
        let taken = (0..100_000).filter(|_| allowance.take(SECOND, 1, 0, 10).is_some()).count();
        assert_eq!(taken, 10);
        for amount in [1 << 20, 1 << 23, MOST, u64::MAX, 1, 1] {
            assert_eq!(allowance.take(SECOND, amount, 0, 10), None);
        }
        assert_eq!(allowance.take(2 * SECOND, 1, 0, 10), Some(1));
    }
}
