//! Which page tables map a range of virtual pages, which frame holds each, and the entries between them.
//!
//! A table of level *n* is numbered by the page number it begins at, shifted right by *9n*: number *x* at level *n* has
//! number *x >> 9* at level *n + 1* as its parent, in slot *x mod 512*. A gap-free range of pages needs a gap-free range
//! of numbers at each level, so a [`TableRun`] is four short ranges however much memory it maps.

use super::PfnRange;
use addresses::{GuestVa, Mfn, PAGE_SHIFT, Pfn};

/// All levels, in the order in which a builder lays tables out.
pub(super) const TOP_DOWN: [u32; 4] = [4, 3, 2, 1];

/// log2 of the pages in an address space of 48 bits.
const SPACE_SHIFT: u32 = 48 - PAGE_SHIFT;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

/// An L1 entry. The guest's kernel runs in ring 3: when the hypervisor checks the table it adds U, and its own mark of the
/// kernel's pages.
pub(super) fn page_entry(mfn: Mfn, writable: bool) -> u64 {
    let write = if writable { WRITABLE } else { 0 };
    mfn.base().0 | PRESENT | write | ACCESSED
}

/// An L2, L3 or L4 entry.
pub(super) fn table_entry(mfn: Mfn) -> u64 {
    mfn.base().0 | PRESENT | WRITABLE | USER | ACCESSED | DIRTY
}

/// The number of a virtual page in its 48-bit space. Higher addresses have higher numbers, in both halves.
pub(super) fn page_number(address: GuestVa) -> u64 {
    (address.get() >> PAGE_SHIFT) & ((1 << SPACE_SHIFT) - 1)
}

/// A gap-free range of tables of one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tables {
    /// The first table's number.
    first: u64,
    /// Their frames.
    pfns: PfnRange,
}

/// The tables that map a range of virtual pages, in consecutive frames, top level first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TableRun {
    /// From L1 up.
    levels: [Tables; 4],
}

impl TableRun {
    /// The tables for `count` pages (at least one) from page number `page`, with no frames yet.
    pub fn covering(page: u64, count: u64) -> TableRun {
        let last_page = page + count - 1;
        let levels = [1, 2, 3, 4].map(|level| {
            let shift = 9 * level;
            let first = page >> shift;
            let count = (last_page >> shift) - first + 1;
            Tables { first, pfns: PfnRange { start: Pfn(0), count } }
        });
        TableRun { levels }
    }

    /// Leaves out the tables that `above`, a run for higher addresses, has already.
    pub fn without(mut self, above: &TableRun) -> TableRun {
        for (tables, taken) in self.levels.iter_mut().zip(&above.levels) {
            // Only the last table of the lower range can reach into the higher one.
            if tables.first + tables.pfns.count > taken.first {
                tables.pfns.count -= 1;
            }
        }
        self
    }

    /// How many tables there are.
    pub fn total(&self) -> u64 {
        self.levels.iter().map(|tables| tables.pfns.count).sum()
    }

    /// Gives the tables their frames, from `start` on.
    pub fn placed(mut self, start: Pfn) -> TableRun {
        let mut next = start;
        for tables in self.levels.iter_mut().rev() {
            tables.pfns.start = next;
            next = tables.pfns.end_pfn();
        }
        self
    }

    fn level(&self, level: u32) -> Tables {
        self.levels[level as usize - 1]
    }

    /// The frame of a level's table with this number, if it is one of these.
    pub fn find(&self, level: u32, number: u64) -> Option<Pfn> {
        let tables = self.level(level);
        let distance = number.checked_sub(tables.first)?;
        (distance < tables.pfns.count).then(|| Pfn(tables.pfns.start.0 + distance))
    }

    /// Every table of a level: its number and its frame.
    pub fn tables(&self, level: u32) -> impl Iterator<Item = (u64, Pfn)> {
        let tables = self.level(level);
        tables.pfns.iter().enumerate().map(move |(i, pfn)| (tables.first + i as u64, pfn))
    }
}

/// The slot of a table, or of a page, in its parent.
pub(super) fn slot(number: u64) -> usize {
    (number & 511) as usize
}
