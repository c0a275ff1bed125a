//! Reading page tables: entry bits and the four-level walk. Pure; the caller supplies the way to read an entry.
//!
//! The bits are the CPU's (Intel SDM volume 3, 4.5). In PV the address in an entry is a *machine* frame.

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// Entry is valid.
pub const PRESENT: u64 = 1 << 0;
/// Writes are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// Ring 3 may use it. A PV kernel runs in ring 3, so the hypervisor sets this on every leaf.
pub const USER: u64 = 1 << 2;

/// The machine frame number an entry points to.
pub const fn frame(entry: u64) -> u64 {
    (entry >> 12) & 0xff_ffff_ffff
}

/// The index into the table of `level` (4 is the root, 1 the leaves) that `address` selects.
pub const fn index(address: u64, level: u32) -> usize {
    ((address >> (12 + 9 * (level - 1))) & 511) as usize
}

/// Finds the level 1 entry that maps `address`, from the root table in machine frame `root`.
///
/// `read(table frame, index)` reads one entry, `None` where it can't. The answer is `None` if a level is missing;
/// otherwise the entry, which may itself be not present.
pub fn leaf(root: u64, address: u64, mut read: impl FnMut(u64, usize) -> Option<u64>) -> Option<u64> {
    let mut table = root;
    for level in [4, 3, 2] {
        let entry = read(table, index(address, level))?;
        if entry & PRESENT == 0 {
            return None;
        }
        table = frame(entry);
    }
    read(table, index(address, 1))
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
        memory.insert((13, index(address, 1)), entry(99));
        let read = |table: u64, index: usize| Some(memory.get(&(table, index)).copied().unwrap_or(0));
        assert_eq!(leaf(10, address, read).map(frame), Some(99));
        assert_eq!(leaf(10, address + PAGE_SIZE, read), Some(0));
        assert_eq!(leaf(10, 0, read), None);
        assert_eq!(leaf(10, address, |_, _| None), None);
    }
}
