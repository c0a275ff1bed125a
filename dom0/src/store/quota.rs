//! What domains have, and their limits. Domain 0 has none, and isn't counted.

use super::permission::{Owner, PRIVILEGED};
use super::tree::Changes;
use alloc::collections::BTreeMap;
use pv_abi::errno::Errno;

/// What a domain may have at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes that it owns.
    pub nodes: usize,
    /// Bytes in a value.
    pub value: usize,
    /// Bytes in a path, without those of a home.
    pub path: usize,
    /// Entries in a node's permissions.
    pub permissions: usize,
    /// Watches.
    pub watches: usize,
    /// Transactions at once.
    pub transactions: usize,
    /// Nodes that a transaction looks at or changes.
    pub touched: usize,
    /// Bytes of all its nodes, watches and transactions: what it costs domain 0.
    pub bytes: usize,
    /// Events that it hasn't fetched, of which some don't tell exactly what changed beyond this number.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            nodes: 1000,
            value: 2048,
            path: 1024,
            permissions: 8,
            watches: 128,
            transactions: 10,
            touched: 1024,
            bytes: 512 << 10,
            events: 64,
        }
    }
}

/// What a domain has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Account {
    nodes: usize,
    bytes: usize,
}

/// What all domains have.
#[derive(Debug)]
pub struct Accounts {
    /// Their limits.
    pub limits: Limits,
    all: BTreeMap<Owner, Account>,
}

impl Accounts {
    /// Nobody has anything.
    pub fn new(limits: Limits) -> Accounts {
        Accounts { limits, all: BTreeMap::new() }
    }

    /// Whether each owner that gets more would be within its limits after these changes. One that gets no more is not
    /// stopped, even if it is beyond them.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn allow(&self, changes: &Changes) -> Result<(), Errno> {
        for (owner, more) in &changes.0 {
            let has = self.of(*owner);
            let exceeds = |has: usize, more: i64, limit| more > 0 && has.saturating_add_signed(size(more)) > limit;
            if owner.domain != PRIVILEGED
                && (exceeds(has.nodes, more.nodes, self.limits.nodes)
                    || exceeds(has.bytes, more.bytes, self.limits.bytes))
            {
                return Err(Errno::ENOSPC);
            }
        }
        Ok(())
    }

    /// Makes changes of nodes, allowed or not.
    pub fn change(&mut self, changes: &Changes) {
        for (owner, more) in &changes.0 {
            self.update(*owner, |account| {
                account.nodes = account.nodes.saturating_add_signed(size(more.nodes));
                account.bytes = account.bytes.saturating_add_signed(size(more.bytes));
            });
        }
    }

    /// Charges bytes for something else than nodes.
    ///
    /// # Errors
    /// `ENOSPC`, and nothing is charged.
    pub fn charge(&mut self, owner: Owner, bytes: usize) -> Result<(), Errno> {
        if owner.domain != PRIVILEGED && self.of(owner).bytes.saturating_add(bytes) > self.limits.bytes {
            return Err(Errno::ENOSPC);
        }
        self.update(owner, |account| account.bytes = account.bytes.saturating_add(bytes));
        Ok(())
    }

    /// Takes back a charge.
    pub fn refund(&mut self, owner: Owner, bytes: usize) {
        self.update(owner, |account| account.bytes = account.bytes.saturating_sub(bytes));
    }

    /// A domain is gone, and what it had is nobody's.
    pub fn forget(&mut self, owner: Owner) {
        self.all.remove(&owner);
    }

    /// Whether a domain owns nodes.
    pub fn has_nodes(&self, owner: Owner) -> bool {
        self.of(owner).nodes > 0
    }

    fn of(&self, owner: Owner) -> Account {
        self.all.get(&owner).copied().unwrap_or_default()
    }

    fn update(&mut self, owner: Owner, change: impl FnOnce(&mut Account)) {
        if owner.domain != PRIVILEGED {
            let mut account = self.of(owner);
            change(&mut account);
            if account == Account::default() {
                self.all.remove(&owner);
            } else {
                self.all.insert(owner, account);
            }
        }
    }

    /// Nodes and bytes of a domain.
    #[cfg(test)]
    pub fn usage(&self, owner: Owner) -> (usize, usize) {
        (self.of(owner).nodes, self.of(owner).bytes)
    }
}

fn size(number: i64) -> isize {
    isize::try_from(number).unwrap_or(if number < 0 { isize::MIN } else { isize::MAX })
}
