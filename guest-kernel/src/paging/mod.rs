//! Page tables as numbers: entry bits, the four-level walk, trees of tables, and which frames are free. Pure.
//!
//! The bits are the CPU's (Intel SDM volume 3, 4.5). In PV the address in an entry is a *machine* frame.

pub mod frames;
pub mod places;
pub mod regions;
pub mod tree;

pub use addresses::{Mfn, Pfn};

/// Bytes in a page.
pub const PAGE_SIZE: u64 = PAGE_BYTES as u64;
/// The same, for lengths and offsets.
pub const PAGE_BYTES: usize = 4096;

/// Entry is valid.
pub const PRESENT: u64 = 1 << 0;
/// Writes are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// Ring 3 may use it. A PV kernel runs in ring 3, so the hypervisor sets this on every leaf.
pub const USER: u64 = 1 << 2;

/// Writes go to memory at once.
const WRITE_THROUGH: u64 = 1 << 3;
/// Nothing of the page is kept in a cache.
const NO_CACHE: u64 = 1 << 4;

/// The CPU has used the entry. Set from the start: nobody here wants to know, and it spares the CPU a write.
const ACCESSED: u64 = 1 << 5;
/// The CPU has written through the entry. Set from the start, too.
const DIRTY: u64 = 1 << 6;
/// Code in the page can't be executed.
pub const NO_EXECUTE: u64 = 1 << 63;

/// What may be done with a page, whose it is aside. No page can be written and executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Read and execute.
    Execute,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Rights::Read => NO_EXECUTE,
            Rights::Write => WRITABLE | NO_EXECUTE,
            Rights::Execute => 0,
        }
    }
}

/// The level 1 entry of a page that only the kernel can reach.
pub const fn kernel_page(frame: Mfn, rights: Rights) -> u64 {
    frame.0 << 12 | PRESENT | ACCESSED | DIRTY | rights.bits()
}

/// The level 1 entry of a page of a device's registers, which no cache holds.
pub const fn device_page(frame: Mfn) -> u64 {
    kernel_page(frame, Rights::Write) | NO_CACHE | WRITE_THROUGH
}

/// The level 1 entry of a page that user mode can reach.
pub const fn user_page(frame: Mfn, rights: Rights) -> u64 {
    kernel_page(frame, rights) | USER
}

/// The entry, on level 2 to 4, of a table one level below.
pub const fn table(frame: Mfn) -> u64 {
    frame.0 << 12 | PRESENT | WRITABLE | USER | ACCESSED | DIRTY
}

/// The frame that an entry points to, if it is present.
pub const fn target(entry: u64) -> Option<Mfn> {
    if entry & PRESENT == 0 { None } else { Some(Mfn(frame(entry))) }
}

/// The machine frame number an entry points to.
pub const fn frame(entry: u64) -> u64 {
    (entry >> 12) & 0xff_ffff_ffff
}

/// The index into the table of `level` (4 is the root, 1 the leaves) that `address` selects.
pub const fn index(address: u64, level: u32) -> usize {
    ((address >> (12 + 9 * (level - 1))) & 511) as usize
}

/// Finds the level 1 table that covers `address`, from the table `root` of `level`.
///
/// `read(table, index)` reads one entry, `None` where it can't. The answer is `None` if a level is missing.
pub fn leaf_table(root: Mfn, level: u32, address: u64, mut read: impl FnMut(Mfn, usize) -> Option<u64>) -> Option<Mfn> {
    (2..=level).rev().try_fold(root, |table, level| target(read(table, index(address, level))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn indexes() {
        let address = (511 << 39) | (510 << 30) | (3 << 21) | (77 << 12) | 0x123;
        assert_eq!([4, 3, 2, 1].map(|level| index(address, level)), [511, 510, 3, 77]);
    }

    #[test]
    fn walks_four_levels() {
        let address = 0xffff_ffff_8010_2000;
        let entry = |frame: u64| (frame << 12) | PRESENT | 1 << 63;
        let mut memory = HashMap::new();
        memory.insert((10, index(address, 4)), entry(11));
        memory.insert((11, index(address, 3)), entry(12));
        memory.insert((12, index(address, 2)), entry(13));
        let read = |table: Mfn, index: usize| Some(memory.get(&(table.0, index)).copied().unwrap_or(0));
        assert_eq!(leaf_table(Mfn(10), 4, address, read), Some(Mfn(13)));
        assert_eq!(leaf_table(Mfn(12), 2, address, read), Some(Mfn(13)));
        assert_eq!(leaf_table(Mfn(13), 1, address, read), Some(Mfn(13)));
        assert_eq!(leaf_table(Mfn(10), 4, address + (2 << 20), read), None);
        assert_eq!(leaf_table(Mfn(10), 4, 0, read), None);
        assert_eq!(leaf_table(Mfn(10), 4, address, |_, _| None), None);
    }
}
