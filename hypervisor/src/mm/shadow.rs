//! The shadow root of a CPU with Meltdown: the L4 table in CR3 while a guest runs there.
//!
//! It shows the guest what its own root shows, and of the hypervisor next to nothing (`arch/x86_64/mm/shadow.rs`). The
//! guest's slots are a copy of the root's entries, so they may be older than these. That is no new thing for the rules of
//! [`mm`](super): a CPU keeps upper-level entries anyhow, in its paging-structure caches. **A shadow root is one more such
//! cache.** It forgets what they forget: it is copied anew, before its CPU next runs a guest,
//! * when another root is loaded,
//! * when the CPU has flushed, by its latest [`Stamp`] on the clock that all rules wait for ([`super::flush`]).
//!
//! Between copying and running the guest the CPU neither flushes nor loads a root. So whatever entry a shadow holds when
//! it is in use was there after the CPU's latest flush, and all that [`mm`](super) says of what a CPU may remember holds
//! for it. Nothing follows from what a shadow holds that isn't in use.
//!
//! What the guest is promised about its own entries: one that it changes and flushes, by address ([`follow`]) or
//! altogether, has changed. One that becomes present needs no flush; the guest faults on the copy, which then
//! [`follow`]s, and the guest tries again.
//!
//! The CPU sets accessed bits in the copy, and nobody looks for them there: each accepted L4 entry has its bit set from the
//! start ([`super::entry`]).

use core::ops::Range;

use super::entry::Entry;
use super::flush::Stamp;
use super::operation::PageTableMem;
use super::state::Level;
use super::walk::index_of;
use crate::addr::{GuestVa, Mfn};

/// What a shadow root is a copy of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The root.
    pub root: Mfn,
    /// The CPU's latest flush when it was copied.
    pub flushed: Stamp,
}

/// The slots that are copied: the guest's, and that of the machine-to-physical table, which guests may read and which some
/// roots hide.
pub fn copied_slots<M: PageTableMem>() -> [Range<usize>; 2] {
    let Range { start, end } = M::HYPERVISOR_SLOTS;
    [0..start + 1, end..M::ENTRIES]
}

impl Source {
    /// Of a shadow root that is a copy of none: frame 0 is no table.
    pub const NONE: Source = Source { root: Mfn(0), flushed: Stamp::NEVER };
}

/// Makes a shadow root, which is a copy of `copied`, one of `source`. Returns whether there was anything to do.
pub fn renew<M: PageTableMem>(memory: &M, shadow: Mfn, copied: Source, source: Source) -> bool {
    if copied == source {
        return false;
    }
    for slots in copied_slots::<M>() {
        memory.copy_entries(shadow, source.root, slots);
    }
    true
}

/// Copies the slot for an address. Returns whether the shadow root had another entry there, accessed bits apart.
pub fn follow<M: PageTableMem>(memory: &M, shadow: Mfn, root: Mfn, address: GuestVa) -> bool {
    let slot = index_of(address, Level::L4);
    let (old, new) = (memory.read(shadow, slot), memory.read(root, slot));
    let differs = (old ^ new) & !Entry(old | new).accessed_dirty() != 0;
    if differs {
        memory.write(shadow, slot, new);
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::tests::machine::{HYPERVISOR_ENTRY, Machine, Memory};

    /// A root and a shadow root with numbers in them, the root's the higher ones.
    fn machine() -> (Machine<true>, Mfn, Mfn) {
        let machine = Machine::new(20, 1);
        let (root, shadow) = (Mfn(11), machine.shadow(0));
        for slot in 0..512 {
            machine.memory.write(root, slot, 0x10_0000 + slot as u64 * 0x1000);
            machine.memory.write(shadow, slot, HYPERVISOR_ENTRY);
        }
        (machine, root, shadow)
    }

    #[test]
    fn the_hypervisors_slots_are_never_copied_but_the_one_for_guests() {
        let (machine, root, shadow) = machine();
        assert!(renew(&machine.memory, shadow, Source::NONE, Source { root, flushed: Stamp::NEVER }));
        for slot in 0..512 {
            let copied = machine.memory.read(shadow, slot) == machine.memory.read(root, slot);
            assert_eq!(copied, !(257..272).contains(&slot), "{slot}");
        }
        assert_eq!(copied_slots::<Memory<true>>(), [0..257, 272..512]);
    }

    #[test]
    fn a_shadow_follows_at_one_address() {
        let (machine, root, shadow) = machine();
        let address = GuestVa::new(5 << 39 | 0x1234).unwrap();
        assert!(follow(&machine.memory, shadow, root, address));
        assert!(!follow(&machine.memory, shadow, root, address));
        let copied = (0..512).filter(|&slot| machine.memory.read(shadow, slot) != HYPERVISOR_ENTRY);
        assert!(copied.eq([5]));
    }

    #[test]
    fn what_the_cpu_notes_in_the_copy_is_no_difference() {
        const ACCESSED: u64 = 1 << 5;
        let (machine, root, shadow) = machine();
        assert!(renew(&machine.memory, shadow, Source::NONE, Source { root, flushed: Stamp::NEVER }));
        machine.memory.write(shadow, 5, machine.memory.read(root, 5) | ACCESSED);
        assert!(!follow(&machine.memory, shadow, root, GuestVa::new(5 << 39).unwrap()));
    }
}
