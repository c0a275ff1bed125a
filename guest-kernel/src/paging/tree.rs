//! Trees of page tables: visiting the entries of an address range, making the tables that are missing, copying.
//!
//! A table is either *plain*, a page that the kernel writes, or *live*: then the hypervisor knows it as a table, it is
//! mapped read-only, and each change is a request. A subtree is made while it is plain, and becomes live as a whole
//! with the entry that hooks it into a live table. So no entry that was requested is ever read back, and requests can
//! wait in a batch.

use super::{Mfn, PAGE_SIZE, index, table, target};
use core::ops::Range;

/// What trees stand on.
pub trait Tables {
    /// Why a table can't be had, or a request isn't granted.
    type Error;

    /// Reads an entry.
    fn read(&self, table: Mfn, index: usize) -> u64;

    /// Writes an entry of a plain table.
    fn store(&mut self, table: Mfn, index: usize, entry: u64);

    /// Requests a change of an entry of a live table.
    ///
    /// # Errors
    /// When it isn't granted, or one before it.
    fn request(&mut self, table: Mfn, index: usize, entry: u64) -> Result<(), Self::Error>;

    /// A new plain table without entries.
    ///
    /// # Errors
    /// When no frame is free.
    fn allocate(&mut self) -> Result<Mfn, Self::Error>;

    /// Requests that all plain tables lose their writable mappings, so that they can be live.
    ///
    /// # Errors
    /// As [`request`](Tables::request).
    fn seal(&mut self) -> Result<(), Self::Error>;
}

/// A table to start from.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    /// Its frame.
    pub table: Mfn,
    /// Its level, 4 for a whole address space.
    pub level: u32,
    /// Whether it is live. A plain root has only plain tables below it, a live one only live ones.
    pub live: bool,
}

/// Whether tables that are missing are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Their pages are passed over.
    Skip,
    /// They are made.
    Make,
}

/// Calls `leaf` with the address and level 1 entry of each page in `range`; an entry that it returns takes the place.
///
/// `range` has page boundaries and lies within what the root covers.
///
/// # Errors
/// Those of the tables and of `leaf`. Entries visited before may have changed by then.
pub fn edit<T: Tables>(
    tables: &mut T,
    root: Root,
    range: Range<u64>,
    missing: Missing,
    leaf: &mut impl FnMut(&mut T, u64, u64) -> Result<Option<u64>, T::Error>,
) -> Result<(), T::Error> {
    for (at, end) in steps(range, root.level) {
        let slot = index(at, root.level);
        let old = tables.read(root.table, slot);
        if root.level == 1 {
            if let Some(new) = leaf(tables, at, old)? {
                put(tables, root, slot, new)?;
            }
        } else if let Some(child) = target(old) {
            edit(tables, Root { table: child, level: root.level - 1, ..root }, at..end, missing, leaf)?;
        } else if missing == Missing::Make {
            let child = tables.allocate()?;
            let below = Root { table: child, level: root.level - 1, live: false };
            edit(tables, below, at..end, missing, leaf)?;
            if root.live {
                tables.seal()?;
            }
            put(tables, root, slot, table(child))?;
        }
    }
    Ok(())
}

/// Copies the pages of `range` from one tree to another, plain one. `leaf` gets each present entry and says what takes
/// its place and what the copy is.
///
/// # Errors
/// As [`edit`].
pub fn copy<T: Tables>(
    tables: &mut T,
    from: Root,
    to: Mfn,
    range: Range<u64>,
    leaf: &mut impl FnMut(&mut T, u64) -> Result<Copied, T::Error>,
) -> Result<(), T::Error> {
    for (at, end) in steps(range, from.level) {
        let slot = index(at, from.level);
        let old = tables.read(from.table, slot);
        let Some(child) = target(old) else { continue };
        if from.level == 1 {
            let Copied { original, copy } = leaf(tables, old)?;
            if original != old {
                put(tables, from, slot, original)?;
            }
            tables.store(to, slot, copy);
        } else {
            let copy = match target(tables.read(to, slot)) {
                Some(copy) => copy,
                None => {
                    let copy = tables.allocate()?;
                    tables.store(to, slot, table(copy));
                    copy
                }
            };
            self::copy(tables, Root { table: child, level: from.level - 1, ..from }, copy, at..end, leaf)?;
        }
    }
    Ok(())
}

/// What becomes of an entry that is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Takes the entry's place.
    pub original: u64,
    /// Goes into the other tree.
    pub copy: u64,
}

/// The most tables that a range of pages can need, below a root of level 4 and without it.
pub const fn tables_for(range: &Range<u64>) -> u64 {
    let (mut tables, mut level) = (0, 1);
    while level < 4 {
        let span = span(level + 1);
        tables += range.end.div_ceil(span) - range.start / span;
        level += 1;
    }
    tables
}

/// The bytes that one entry of a table of `level` covers.
const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

/// Splits a range into the parts that one entry of a table of `level` covers.
fn steps(range: Range<u64>, level: u32) -> impl Iterator<Item = (u64, u64)> {
    let mut at = range.start;
    core::iter::from_fn(move || {
        let start = at;
        at = (start | (span(level) - 1)).saturating_add(1).min(range.end);
        (start < range.end).then_some((start, at))
    })
}

/// Writes an entry, in the way of the table it is in.
fn put<T: Tables>(tables: &mut T, root: Root, slot: usize, entry: u64) -> Result<(), T::Error> {
    if root.live {
        tables.request(root.table, slot, entry)
    } else {
        tables.store(root.table, slot, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
