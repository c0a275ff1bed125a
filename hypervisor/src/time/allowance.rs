//! What a domain may do with something that is scarce for all: so much at once, and so much in each second in the long run.

use core::sync::atomic::{AtomicU64, Ordering};

use super::SECOND;

/// How much has been taken, by any number of CPUs.
#[derive(Default, Debug)]
pub struct Allowance {
    /// A second, above [`AMOUNT_BITS`] bits for what is missing of the stock in it.
    missing: AtomicU64,
}

const AMOUNT_BITS: u32 = 24;
/// The largest stock there can be.
const MOST: u64 = (1 << AMOUNT_BITS) - 1;

impl Allowance {
    /// Takes `amount` at system time `now` in nanoseconds, of a stock of `stock`, to which `per_second` comes back when a
    /// second begins. What is left of it; `None` if there is less, and then nothing is taken.
    pub fn take(&self, now: u64, amount: u64, stock: u64, per_second: u64) -> Option<u64> {
        let (second, stock) = (now / SECOND, stock.min(MOST));
        let take = |before: u64| {
            let since = before >> AMOUNT_BITS;
            // CPUs that come at the same time may come in any order.
            let back = second.saturating_sub(since).saturating_mul(per_second);
            let missing = (before & MOST).saturating_sub(back).saturating_add(amount);
            (missing <= stock).then_some(second.max(since) << AMOUNT_BITS | missing)
        };
        let before = self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        take(before).map(|after| stock - (after & MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_and_then_so_much_in_a_second() {
        let allowance = Allowance::default();
        assert_eq!(allowance.take(5 * SECOND, 60, 100, 10), Some(40));
        assert_eq!(allowance.take(5 * SECOND, 50, 100, 10), None, "too much");
        assert_eq!(allowance.take(5 * SECOND, 40, 100, 10), Some(0), "and nothing was taken for it");
        assert_eq!(allowance.take(6 * SECOND - 1, 1, 100, 10), None);
        assert_eq!(allowance.take(6 * SECOND, 4, 100, 10), Some(6));
        assert_eq!(allowance.take(6 * SECOND, 6, 100, 10), Some(0));
        assert_eq!(allowance.take(5 * SECOND, 1, 100, 10), None, "another CPU's time is behind");
        assert_eq!(allowance.take(8 * SECOND, 20, 100, 10), Some(0));
        assert_eq!(allowance.take(1000 * SECOND, 100, 100, 10), Some(0), "no more than the stock comes back");
    }

    #[test]
    fn no_number_of_attempts_makes_more_of_it() {
        let allowance = Allowance::default();
        let taken = (0..100_000).filter(|_| allowance.take(SECOND, 1, 10, 10).is_some()).count();
        assert_eq!(taken, 10);
        for amount in [1 << 20, 1 << 23, MOST, u64::MAX, 1] {
            assert_eq!(allowance.take(SECOND, amount, 10, 10), None);
        }
        assert_eq!(allowance.take(2 * SECOND, 1, 10, 10), Some(9));
        assert_eq!(allowance.take(u64::MAX, 10, 10, u64::MAX), Some(0));
        assert_eq!(allowance.take(u64::MAX, MOST, u64::MAX, 10), None);
    }
}
