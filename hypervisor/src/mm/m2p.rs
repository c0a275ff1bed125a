//! The machine-to-physical table: for each machine frame, the number its owner knows it by.
//!
//! Guests read it (L4 slot 256) to turn page-table entries back into their own numbers, so it must be right before a
//! domain's first instruction. A guest sets the entries of its own frames with `MMU_MACHPHYS_UPDATE` to anything it
//! likes; nothing in the hypervisor believes them.

use super::frame::FrameTable;
use super::state::Usage;
use crate::addr::{DomainId, Mfn, Pfn};

/// What the table holds for a frame that no domain owns. Xen ABI: `INVALID_M2P_ENTRY`.
pub const INVALID_ENTRY: u64 = u64::MAX;
/// What the table holds for a frame the hypervisor shares with a domain. Xen: `SHARED_M2P_ENTRY`.
pub const SHARED_ENTRY: u64 = u64::MAX - 1;

/// The seam to the table's memory. Each entry is one aligned 64-bit store.
pub trait MachineToPhys {
    /// Stores `entry` for `mfn`, which is in the frame table.
    fn store(&self, mfn: Mfn, entry: u64);
}

/// Says that the owner of `mfn` knows it as `pfn`.
pub fn set(m2p: &impl MachineToPhys, mfn: Mfn, pfn: Pfn) {
    m2p.store(mfn, pfn.0);
}

/// Says that the owner of `count` frames from `mfn` on knows them by the numbers from `pfn` on, which is its word for it.
pub fn set_all(m2p: &impl MachineToPhys, mfn: Mfn, pfn: Pfn, count: u64) {
    (0..count).for_each(|n| set(m2p, mfn.offset(n), Pfn(pfn.0.wrapping_add(n))));
}

/// Says that the hypervisor shares `mfn` with a domain, which has no number for it.
pub fn mark_shared(m2p: &impl MachineToPhys, mfn: Mfn) {
    m2p.store(mfn, SHARED_ENTRY);
}

/// Says that no domain knows `mfn`; the rule for a frame that goes back to the allocator.
pub fn clear(m2p: &impl MachineToPhys, mfn: Mfn) {
    m2p.store(mfn, INVALID_ENTRY);
}

/// A guest's own update (`MMU_MACHPHYS_UPDATE`): `false`, and nothing stored, unless `domain` owns the frame.
///
/// The caller holds a reference to the frame, so that it can't change hands in between.
pub fn guest_set(m2p: &impl MachineToPhys, frames: &FrameTable<'_>, domain: DomainId, mfn: Mfn, value: u64) -> bool {
    let own = frames.get(mfn).is_some_and(|f| f.state().usage() == Usage::InUse && f.owner() == Some(domain));
    if own {
        m2p.store(mfn, value);
    }
    own
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::mm::frame::Frame;
    use crate::mm::state::State;

    #[derive(Default)]
    struct Table(RefCell<BTreeMap<u64, u64>>);

    impl MachineToPhys for Table {
        fn store(&self, mfn: Mfn, entry: u64) {
            self.0.borrow_mut().insert(mfn.0, entry);
        }
    }

    #[test]
    fn a_guest_changes_only_its_own_entries() {
        let frames = [const { Frame::ZERO }; 3];
        let table = FrameTable::new(&frames, Mfn(0));
        frames[1].set_owner(Some(DomainId(4)));
        frames[1].set_state(State::allocated());
        let m2p = Table::default();
        assert!(guest_set(&m2p, &table, DomainId(4), Mfn(1), 77));
        for (domain, mfn) in [(5, 1), (4, 0), (4, 2), (4, 3), (4, u64::MAX)] {
            assert!(!guest_set(&m2p, &table, DomainId(domain), Mfn(mfn), 78));
        }
        assert_eq!(*m2p.0.borrow(), BTreeMap::from([(1, 77)]));
        clear(&m2p, Mfn(1));
        assert_eq!(*m2p.0.borrow(), BTreeMap::from([(1, INVALID_ENTRY)]));
    }
}
