//! Who may do what with a node.
//!
//! Domain numbers are used again. An entry means the domain that had the number when the entry was made, and nobody once
//! that is released: each number counts its *lives*, and an entry keeps the life that it was made in. So a release need not
//! look for the nodes that mention the domain; only those that it owned are removed.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use guest_kernel::store::wire::{Permission, Rights};

/// The domain that may do everything.
pub const PRIVILEGED: u16 = 0;

/// A domain in one life of its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Owner {
    /// Its number.
    pub domain: u16,
    life: u32,
}

/// How often each number was released.
#[derive(Default, Debug)]
pub struct Lives(BTreeMap<u16, u32>);

impl Lives {
    /// The domain that has the number now, or will be the next to have it.
    pub fn now(&self, domain: u16) -> Owner {
        Owner { domain, life: self.0.get(&domain).copied().unwrap_or(0) }
    }

    /// Whether it has not been released.
    pub fn is_alive(&self, owner: Owner) -> bool {
        self.now(owner.domain) == owner
    }

    /// The domain is gone: its number's next life begins.
    pub fn end(&mut self, domain: u16) {
        *self.0.entry(domain).or_default() += 1;
    }
}

/// A node's permissions. The first entry is the owner's; its rights are those of domains without an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permissions(Rc<[(Owner, Rights)]>);

impl Permissions {
    /// From a client's list, which has at least one entry.
    pub fn new(all: &[Permission], lives: &Lives) -> Permissions {
        Permissions(all.iter().map(|entry| (lives.now(entry.domain), entry.rights)).collect())
    }

    /// Those of a node that `creator` makes below one with these: the same, but a domain without privilege becomes the
    /// owner.
    pub fn inherited(&self, creator: u16, lives: &Lives) -> Permissions {
        let owner = lives.now(creator);
        if creator == PRIVILEGED || self.0[0].0 == owner {
            return self.clone();
        }
        let mut all = self.0.to_vec();
        all[0].0 = owner;
        Permissions(all.into())
    }

    /// The owner; domain 0 if the domain that was it is gone.
    pub fn owner(&self, lives: &Lives) -> Owner {
        if lives.is_alive(self.0[0].0) { self.0[0].0 } else { lives.now(PRIVILEGED) }
    }

    /// As a client sees them.
    pub fn list(&self, lives: &Lives) -> Vec<Permission> {
        let others = self.0[1..].iter().filter(|(owner, _)| lives.is_alive(*owner));
        let first = Permission::new(self.owner(lives).domain, self.0[0].1);
        [first].into_iter().chain(others.map(|(owner, rights)| Permission::new(owner.domain, *rights))).collect()
    }

    /// A domain's rights.
    pub fn rights_of(&self, domain: u16, lives: &Lives) -> Rights {
        if domain == PRIVILEGED || self.0[0].0 == lives.now(domain) {
            return Rights::BOTH;
        }
        let entry = self.0[1..].iter().find(|(owner, _)| *owner == lives.now(domain));
        entry.unwrap_or(&self.0[0]).1
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn list(text: &str) -> Vec<Permission> {
        text.split(' ').map(|entry| Permission::parse(entry.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn the_owner_may_all_and_the_first_entry_is_the_default() {
        let lives = Lives::default();
        let permissions = Permissions::new(&list("r1 b2 n3"), &lives);
        let rights = |domain| permissions.rights_of(domain, &lives);
        assert_eq!([0, 1, 2, 3, 4].map(rights), [Rights::BOTH, Rights::BOTH, Rights::BOTH, Rights::NONE, Rights::READ]);
        assert_eq!(permissions.list(&lives), list("r1 b2 n3"));
    }

    #[test]
    fn new_nodes_belong_to_who_makes_them() {
        let lives = Lives::default();
        let permissions = Permissions::new(&list("n1 b2"), &lives);
        assert_eq!(permissions.inherited(2, &lives).list(&lives), list("n2 b2"));
        assert_eq!(permissions.inherited(0, &lives), permissions);
        assert_eq!(permissions.inherited(1, &lives), permissions);
    }

    #[test]
    fn a_number_used_again_inherits_nothing() {
        let mut lives = Lives::default();
        let permissions = Permissions::new(&list("n1 b2"), &lives);
        lives.end(2);
        assert_eq!(permissions.rights_of(2, &lives), Rights::NONE);
        assert_eq!(permissions.list(&lives), list("n1"));
        lives.end(1);
        assert_eq!(permissions.rights_of(1, &lives), Rights::NONE);
        assert_eq!((permissions.owner(&lives).domain, permissions.list(&lives)), (0, list("n0")));
        let again = Permissions::new(&list("n1"), &lives);
        assert_eq!(again.rights_of(1, &lives), Rights::BOTH);
        assert_eq!(vec![again.len(), permissions.len()], [1, 2]);
    }
}
