//! What the scheduler knows of one vCPU.

use alloc::sync::Arc;

use super::share::Share;
use super::vtime::VTime;
use crate::mm::flush::{AtomicCpuSet, CpuSet};

/// A vCPU's account: where it may run, and what it has had.
#[derive(Debug)]
pub struct Account {
    /// Its domain's part of the CPUs.
    share: Arc<Share>,
    /// The CPUs it may use. May change at any time: the CPU that it is put on looks here afterwards.
    allowed: Arc<AtomicCpuSet>,
    /// What it has had.
    pub(super) virtual_time: VTime,
    /// Since when it waits for a CPU, if it does.
    pub(super) waits_since: Option<u64>,
    /// The piece of its domain's budget that it runs on, in nanoseconds, if there is a budget.
    pub(super) claimed: Option<u64>,
    /// It counts as one that wants to run.
    wanting: bool,
}

impl Account {
    /// The account of a vCPU that doesn't want to run yet.
    pub fn new(share: Arc<Share>, allowed: Arc<AtomicCpuSet>) -> Account {
        Account { share, allowed, virtual_time: VTime::default(), waits_since: None, claimed: None, wanting: false }
    }

    /// Its domain's part of the CPUs.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// The CPUs it may use.
    pub fn allowed(&self) -> CpuSet {
        self.allowed.load()
    }

    /// Does it run without a limit, although its domain has a cap by now?
    pub fn escapes_cap(&self) -> bool {
        self.claimed.is_none() && self.share.is_capped()
    }

    /// It waits for a CPU from `now` on, or does already.
    pub(super) fn want(&mut self, now: u64) {
        self.waits_since.get_or_insert(now);
        if !core::mem::replace(&mut self.wanting, true) {
            self.share.join();
        }
    }

    /// It has its CPU.
    pub(super) fn enter(&mut self, claimed: Option<u64>) {
        self.waits_since = None;
        self.claimed = claimed;
    }

    /// It doesn't want to run.
    pub(super) fn rest(&mut self) {
        self.waits_since = None;
        if core::mem::replace(&mut self.wanting, false) {
            self.share.leave();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_that_goes_wants_nothing() {
        let share = Arc::new(Share::new(256, 0));
        let mut account = Account::new(share.clone(), Arc::default());
        let mut other = Account::new(share.clone(), Arc::default());
        account.want(5);
        account.want(7);
        assert_eq!(account.waits_since, Some(5));
        let whole = share.vcpu_weight();
        other.want(5);
        assert_eq!(share.vcpu_weight(), whole / 2);
        drop(other);
        assert_eq!(share.vcpu_weight(), whole);
        account.rest();
        account.rest();
        assert_eq!((account.waits_since, share.vcpu_weight()), (None, whole));
    }
}
