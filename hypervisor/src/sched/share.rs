//! What a domain may have of the CPUs: its weight, divided among those of its vCPUs that want to run, and its cap.
//!
//! A **cap** is a budget of CPU time for each [`CAP_PERIOD`]. A vCPU that is put on a CPU takes a piece of the budget with
//! it ([`Share::claim`]) and runs no longer than that; what it didn't use it gives back. So the vCPUs of a domain, on
//! however many CPUs, never run longer than the budget together. What a piece was overdrawn by is missing in the next
//! periods, of [`MOST_DEBT`] of them at most: a timer that comes very late is not the domain's doing.
//!
//! **Both may change at any time.** Queues remember the weight with which they count a vCPU, so a new one counts when the
//! vCPU is next put into a queue or on a CPU. A new cap begins with a whole budget. One that runs without a limit at
//! that moment must be interrupted ([`Account::escapes_cap`](super::Account::escapes_cap)).

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::vtime::UNIT;

/// For how long a cap is a budget, in nanoseconds.
pub const CAP_PERIOD: u64 = 30_000_000;

/// A piece of a budget is not smaller, or switching would cost more than the piece is worth.
const LEAST_PIECE: u64 = 100_000;

/// The most budgets that an overdraft takes.
const MOST_DEBT: u64 = 10;

/// A domain's part of the CPUs. All CPUs use it at any time.
#[derive(Debug)]
pub struct Share {
    weight: AtomicU16,
    /// In percent of one CPU; 0 for none.
    cap: AtomicU16,
    /// vCPUs that want to run.
    wanting: AtomicU32,
    /// The number of a period, modulo 2^32, and the nanoseconds of its budget that are taken, in the low 32 bits.
    taken: AtomicU64,
}

impl Share {
    /// A share of `weight`, relative to the others', of at most `cap` percent of one CPU; a cap of 0 is no limit.
    pub fn new(weight: u16, cap: u16) -> Share {
        Share {
            weight: AtomicU16::new(weight.max(1)),
            cap: AtomicU16::new(cap),
            wanting: AtomicU32::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Its weight, relative to the others'.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes its weight, which is at least 1.
    pub fn set_weight(&self, weight: u16) {
        self.weight.store(weight.max(1), Ordering::Relaxed);
    }

    /// Its cap in percent of one CPU; 0 for none.
    pub fn cap(&self) -> u16 {
        self.cap.load(Ordering::SeqCst)
    }

    /// Changes its cap. What was taken of the old budget is forgotten: else a small cap after a large one would mean a
    /// long wait. The caller makes CPUs that run vCPUs of the domain schedule afterwards.
    pub fn set_cap(&self, cap: u16) {
        if self.cap.swap(cap, Ordering::SeqCst) != cap {
            self.taken.store(0, Ordering::Relaxed);
        }
    }

    /// The weight of one of its vCPUs that want to run, in [`UNIT`]s.
    pub fn vcpu_weight(&self) -> u64 {
        u64::from(self.weight()) * UNIT / u64::from(self.wanting.load(Ordering::Relaxed).max(1))
    }

    /// One more of its vCPUs wants to run.
    pub(super) fn join(&self) {
        self.wanting.fetch_add(1, Ordering::Relaxed);
    }

    /// One of its vCPUs doesn't want to run any more.
    pub(super) fn leave(&self) {
        self.wanting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Is there a cap?
    pub fn is_capped(&self) -> bool {
        self.cap() != 0
    }

    fn budget(&self) -> u64 {
        u64::from(self.cap()) * CAP_PERIOD / 100
    }

    /// Has the budget of the present period been taken?
    pub fn is_spent(&self, now: u64) -> bool {
        self.is_capped() && self.taken_in(self.taken.load(Ordering::Relaxed), now) >= self.budget()
    }

    /// A piece of the budget for one vCPU: at most `wish` nanoseconds, and none that reaches into the next period. Without a
    /// cap it is `None`, which is no limit.
    pub(super) fn claim(&self, now: u64, wish: u64) -> Result<Option<u64>, Spent> {
        let budget = self.budget();
        if budget == 0 {
            return Ok(None);
        }
        let even = budget / u64::from(self.wanting.load(Ordering::Relaxed).max(1));
        let to_end = next_period(now) - now;
        let mut piece = None;
        self.change(now, |taken| {
            let left = budget.saturating_sub(taken);
            piece = (left > 0).then(|| wish.min(even).min(left).max(LEAST_PIECE).min(to_end));
            taken + piece.unwrap_or(0)
        });
        piece.map(Some).ok_or(Spent)
    }

    /// A piece of `claimed` nanoseconds was used for `used`.
    pub(super) fn settle(&self, now: u64, claimed: u64, used: u64) {
        if self.is_capped() && claimed != used {
            self.change(now, |taken| (taken + used).saturating_sub(claimed));
        }
    }

    /// How much of the budget is taken at `now`, given the word [`Share::taken`].
    fn taken_in(&self, word: u64, now: u64) -> u64 {
        let (period, taken) = (word >> 32, word & u64::from(u32::MAX));
        let passed = ((now / CAP_PERIOD).wrapping_sub(period)) & u64::from(u32::MAX);
        taken.saturating_sub(self.budget().saturating_mul(passed))
    }

    fn change(&self, now: u64, mut change: impl FnMut(u64) -> u64) {
        let mut word = self.taken.load(Ordering::Relaxed);
        loop {
            let most = (self.budget() * MOST_DEBT).min(u32::MAX.into());
            let taken = change(self.taken_in(word, now)).min(most);
            let new = (now / CAP_PERIOD) << 32 | taken;
            match self.taken.compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }
}

/// The budget of the present period has been taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spent;

/// When the period after the present one begins.
pub fn next_period(now: u64) -> u64 {
    (now / CAP_PERIOD + 1) * CAP_PERIOD
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_weight_is_divided_among_those_that_want_to_run() {
        let share = Share::new(512, 0);
        share.join();
        assert_eq!(share.vcpu_weight(), 512 * UNIT);
        share.join();
        assert_eq!(share.vcpu_weight(), 256 * UNIT);
        share.leave();
        assert_eq!(share.vcpu_weight(), 512 * UNIT);
    }

    #[test]
    fn pieces_add_up_to_the_budget() {
        let share = Share::new(256, 50);
        share.join();
        assert_eq!(share.claim(0, 10 * MS), Ok(Some(10 * MS)));
        assert_eq!(share.claim(10 * MS, 10 * MS), Ok(Some(5 * MS)));
        assert!(share.is_spent(15 * MS) && share.claim(15 * MS, MS).is_err());
        // 2 ms less than claimed, and they are there again.
        share.settle(15 * MS, 5 * MS, 3 * MS);
        assert_eq!(share.claim(16 * MS, 10 * MS), Ok(Some(2 * MS)));
        // Nothing is left over for the next period, and no piece goes beyond its end.
        assert_eq!(share.claim(58 * MS, 10 * MS), Ok(Some(2 * MS)));
    }

    #[test]
    fn an_overdraft_is_missing_in_the_next_period() {
        let share = Share::new(256, 10);
        assert_eq!(share.claim(0, 10 * MS), Ok(Some(3 * MS)));
        share.settle(4 * MS, 3 * MS, 4 * MS);
        assert_eq!(share.claim(CAP_PERIOD, 10 * MS), Ok(Some(2 * MS)));
        assert!(share.is_spent(CAP_PERIOD + 2 * MS));
        assert!(!share.is_spent(2 * CAP_PERIOD));
        // However late the timer is.
        assert_eq!(share.claim(2 * CAP_PERIOD, 3 * MS), Ok(Some(3 * MS)));
        share.settle(40 * CAP_PERIOD, 3 * MS, 1_000 * MS);
        assert!(share.is_spent(40 * CAP_PERIOD) && !share.is_spent(50 * CAP_PERIOD));
    }

    #[test]
    fn a_new_cap_begins_with_a_whole_budget() {
        let share = Share::new(256, 300);
        assert_eq!(share.claim(0, 10 * MS), Ok(Some(10 * MS)));
        share.settle(0, 10 * MS, 900 * MS);
        assert!(share.is_spent(2 * CAP_PERIOD));
        share.set_cap(10);
        assert_eq!(share.claim(CAP_PERIOD, 10 * MS), Ok(Some(3 * MS)));
        // The same again changes nothing.
        share.set_cap(10);
        assert_eq!(share.claim(CAP_PERIOD, 10 * MS), Err(Spent));
        share.set_cap(0);
        assert_eq!(share.claim(CAP_PERIOD, 10 * MS), Ok(None));
        // A piece of a budget that is no more.
        share.settle(CAP_PERIOD, 3 * MS, 20 * MS);
        share.set_cap(20);
        assert_eq!(share.claim(CAP_PERIOD, 10 * MS), Ok(Some(6 * MS)));
        assert_eq!(share.cap(), 20);
    }

    #[test]
    fn a_weight_changes_and_is_never_0() {
        let share = Share::new(256, 0);
        share.set_weight(u16::MAX);
        assert_eq!((share.weight(), share.vcpu_weight()), (u16::MAX, 65_535 * UNIT));
        share.set_weight(0);
        assert_eq!((share.weight(), share.vcpu_weight()), (1, UNIT));
    }

    #[test]
    fn without_a_cap_nothing_is_ever_spent() {
        let share = Share::new(0, 0);
        assert_eq!(share.claim(7, u64::MAX), Ok(None));
        assert!(!share.is_spent(9));
        share.join();
        assert_eq!(share.vcpu_weight(), UNIT);
    }
}
