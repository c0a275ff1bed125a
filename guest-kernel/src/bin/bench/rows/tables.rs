//! Whole address spaces.

use crate::meter::{Effort, Measured};
use crate::scratch::{Page, Pages};
use guest_kernel::hypercall::{mmuext, raw};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall::MMUEXT_OP;
use pv_abi::mmu::MmuextOp;

/// Entries of a table.
const ENTRIES: usize = 512;

/// The tables: the root, one of level 3, those of level 2, and the others of level 1.
static TABLES: Pages<1000> = Pages::new();
/// What the level 1 tables map, again and again.
static LEAVES: Pages<64> = Pages::new();

/// A table's share of pinning and unpinning an address space of 1000, whose level 1 tables are full of writable pages.
pub fn pin_unpin(effort: Effort) -> Measured {
    let root = build(effort.tables)?;
    let pin = [mmuext::pin(4, root)];
    let unpin = [mmuext::unpin(root)];
    effort.count(effort.tables as u64, || mmuext_op(&pin) | mmuext_op(&unpin))
}

fn mmuext_op(operations: &[MmuextOp]) -> i64 {
    let args = [operations.as_ptr() as u64, operations.len() as u64, 0, u64::from(DOMID_SELF), 0];
    // SAFETY: the call reads the operations; the tables map pages that hold nothing.
    unsafe { raw(u64::from(MMUEXT_OP), args) }
}

/// Builds an address space of `tables` tables, at least 4, and makes them read-only; returns its root's frame.
fn build(tables: usize) -> Result<u64, Errno> {
    let level2 = (tables - 2).div_ceil(ENTRIES + 1);
    let level1 = 2 + level2;
    fill(0, (1..2).map(|index| TABLES.page(index)));
    fill(1, (2..level1).map(|index| TABLES.page(index)));
    for index in 0..level2 {
        let first = level1 + index * ENTRIES;
        fill(2 + index, (first..tables.min(first + ENTRIES)).map(|index| TABLES.page(index)));
    }
    for index in level1..tables {
        fill(index, (0..ENTRIES).map(|index| LEAVES.page(index % LEAVES.len())));
    }
    (0..tables).try_for_each(|index| TABLES.page(index).protect())?;
    Ok(TABLES.page(0).frame)
}

/// Makes `pages` the first entries of a table.
fn fill(table: usize, pages: impl Iterator<Item = Page>) {
    let table = TABLES.page(table).address as *mut u64;
    for (index, page) in pages.take(ENTRIES).enumerate() {
        // SAFETY: the page is a table of ours that isn't in use yet, and the index lies in it.
        unsafe { table.add(index).write_volatile(page.writable()) };
    }
}
