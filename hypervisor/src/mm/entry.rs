//! Page-table entries: which bits a guest may set, and what is changed in what it wrote.
//!
//! Bits are accepted from a list, never refused from one (XSA-148). There are no superpages, at any level. The cache
//! bits are accepted only for device frames, so that no frame of RAM is ever mapped with two cache types (XSA-402).
//!
//! What an entry *uses* is its present bit, its frame, and at L1 its write bit. Two accepted entries with the same
//! uses hold the same references, so one may replace the other without counting anything. Nothing else may be
//! treated as equal (XSA-182).

use core::fmt;

use super::state::Level;
use crate::addr::Mfn;

/// A page-table entry as it stands in memory.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Entry(pub u64);

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const CACHE: u64 = 1 << 3 | 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const GLOBAL: u64 = 1 << 8;
const SOFTWARE: u64 = 7 << 9 | 0x7ff << 52;
const NO_EXECUTE: u64 = 1 << 63;
/// Marks an L1 entry that the guest meant for its kernel: ring 3 has to reach it, so its user bit was forced on.
const GUEST_KERNEL: u64 = 1 << 52;
/// The software bit that Xen keeps for grant mappings; a guest may not set it.
const GRANT: u64 = 1 << 62;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const ACCEPTED: u64 = PRESENT | WRITE | USER | ACCESSED | DIRTY | SOFTWARE | NO_EXECUTE | FRAME;
const ACCEPTED_L1: u64 = (ACCEPTED | GLOBAL) & !GRANT;

impl Entry {
    /// Whether the CPU would use the entry.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether the write bit is set.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Whether instructions may not be fetched through it.
    pub const fn is_no_execute(self) -> bool {
        self.0 & NO_EXECUTE != 0
    }

    /// The frame it names. Of an entry that is not present: the frame a speculating CPU would use (L1TF).
    pub const fn frame(self) -> Mfn {
        Mfn((self.0 & FRAME) >> 12)
    }

    /// Whether it asks for another cache type than that of RAM.
    pub const fn asks_for_cache_type(self) -> bool {
        self.0 & CACHE != 0
    }

    /// The accessed and dirty bits, which the CPU sets on its own.
    pub const fn accessed_dirty(self) -> u64 {
        self.0 & (ACCESSED | DIRTY)
    }

    /// Whether both hold the same references at `level`.
    pub const fn same_uses(self, other: Entry, level: Level) -> bool {
        let counted = if matches!(level, Level::L1) { PRESENT | FRAME | WRITE } else { PRESENT | FRAME };
        (self.0 ^ other.0) & counted == 0 || (self.0 | other.0) & PRESENT == 0
    }

    /// What goes into memory for what the guest wrote; `None` if it set a bit that it may not.
    ///
    /// `device` says that the frame is no RAM. An entry that is not present may hold anything here.
    pub const fn accept(self, level: Level, device: bool) -> Option<Entry> {
        if !self.is_present() {
            return Some(self);
        }
        let accepted = match level {
            Level::L1 if device => ACCEPTED_L1 | CACHE,
            Level::L1 => ACCEPTED_L1,
            Level::L2 | Level::L3 | Level::L4 => ACCEPTED,
        };
        if self.0 & !accepted != 0 {
            return None;
        }
        Some(Entry(match level {
            Level::L1 => adjust_l1(self.0),
            Level::L2 | Level::L3 => self.0 | USER,
            Level::L4 => self.0 | USER | ACCESSED,
        }))
    }
}

/// Guest kernel and guest user both run in ring 3, in separate address spaces: every page gets the user bit, and user
/// pages alone are global, because those are the same in both spaces. A page once marked as the kernel's stays so when
/// the guest writes back what it read.
const fn adjust_l1(value: u64) -> u64 {
    if value & USER == 0 || value & GUEST_KERNEL != 0 {
        (value | USER | GUEST_KERNEL) & !GLOBAL
    } else {
        value | GLOBAL
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::L4];

    #[test]
    fn every_bit_outside_the_list_is_refused_at_every_level() {
        for level in LEVELS {
            let refused: u64 = (0..64)
                .map(|bit| 1 << bit)
                .filter(|bit| Entry(PRESENT | bit).accept(level, false).is_none())
                .fold(0, |set, bit| set | bit);
            let expected = if level == Level::L1 { 0x98 | GRANT } else { 0x198 };
            assert_eq!(refused, expected, "{level:?}");
        }
        assert!(Entry(PRESENT | CACHE).accept(Level::L1, true).is_some());
        assert!(Entry(PRESENT | CACHE).accept(Level::L2, true).is_none());
        assert!(Entry(PRESENT | 0x80).accept(Level::L1, true).is_none());
    }

    #[test]
    fn kernel_pages_stay_the_kernels_and_are_never_global() {
        let kernel = Entry(PRESENT | WRITE).accept(Level::L1, false).unwrap();
        assert_eq!(kernel.0, PRESENT | WRITE | USER | GUEST_KERNEL);
        assert_eq!(kernel.accept(Level::L1, false), Some(kernel));
        assert_eq!(Entry(kernel.0 | GLOBAL).accept(Level::L1, false), Some(kernel));
        let user = Entry(PRESENT | USER).accept(Level::L1, false).unwrap();
        assert_eq!(user.0, PRESENT | USER | GLOBAL);
    }

    #[test]
    fn upper_levels_get_the_user_bit() {
        assert_eq!(Entry(PRESENT).accept(Level::L2, false), Some(Entry(PRESENT | USER)));
        assert_eq!(Entry(PRESENT).accept(Level::L3, false), Some(Entry(PRESENT | USER)));
        assert_eq!(Entry(PRESENT).accept(Level::L4, false), Some(Entry(PRESENT | USER | ACCESSED)));
    }

    #[test]
    fn only_flags_that_hold_no_reference_may_change_for_free() {
        let entry = Entry(0x5000 | PRESENT);
        for bit in 0..64 {
            let other = Entry(entry.0 ^ (1 << bit));
            for level in LEVELS {
                let counted = bit == 0 || (12..52).contains(&bit) || (bit == 1 && level == Level::L1);
                assert_eq!(entry.same_uses(other, level), !counted, "bit {bit} at {level:?}");
            }
        }
        assert!(Entry(0x1000).same_uses(Entry(0x2002), Level::L1));
    }

    #[test]
    fn acceptance_never_changes_the_uses() {
        for value in [0u64, 1, 3, 7, 0x1003, 0x10_0000_0000_1003, 0x123] {
            for level in LEVELS {
                let entry = Entry(value | 0x7000);
                if let Some(accepted) = entry.accept(level, false) {
                    assert!(entry.same_uses(accepted, level));
                }
            }
        }
    }
}
