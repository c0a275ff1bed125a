//! The two tables with an entry per frame: frame table and machine-to-physical table.
//!
//! Only entries of RAM have memory of their own. Where the RAM has holes, the frame table shows one and the same
//! read-only pattern, "device memory", so that any frame number below its end can be looked up; the
//! machine-to-physical table shows nothing.

use core::slice;

use super::layout::{FRAME_TABLE, M2P, M2P_WRITABLE};
use super::pool::Pool;
use super::table::{Level, Tables};
use super::{MapError, PageFlags, direct_map, m2p, to_usize};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::machine::{FrameRange, Ranges};
use crate::mm::frame::{Frame, FrameTable};

const PAGE: u64 = PAGE_SIZE as u64;
const LARGE: u64 = Level::Large.frames();
/// Bytes in a frame-table entry.
const ENTRY: u64 = size_of::<Frame>() as u64;
/// Pages after which entries and pages start together again.
const PATTERN_PAGES: u64 = 3;
const _: () = assert!((PATTERN_PAGES * PAGE).is_multiple_of(ENTRY));

/// The frame table's and M2P's own rights: data, ours to write.
const DATA: PageFlags =
    PageFlags::NO_EXECUTE.union(PageFlags::GLOBAL).union(PageFlags::WRITABLE).union(PageFlags::DIRTY);
/// Data that nobody writes.
const CONSTANT: PageFlags = PageFlags::NO_EXECUTE.union(PageFlags::GLOBAL);

/// Pages `first..end` of a table of entries of `entry` bytes, for each range of RAM; no page twice.
fn pages(ram: &Ranges, entry: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    ram.iter().scan(0, move |next, range| {
        let first = (range.start.0 * entry / PAGE).max(*next);
        *next = (range.end.0 * entry).div_ceil(PAGE).max(first);
        Some((first, *next))
    })
}

/// Maps both tables for all RAM and fills them: no frame has an owner or a number.
///
/// # Safety
/// As for [`Tables::map`], with the boot loader's map of all memory in place.
pub(super) unsafe fn map(tables: Tables, ram: &Ranges, pool: &mut Pool<'_>) -> Result<(), MapError> {
    // SAFETY: the caller's promise; the frames are fresh, and the two views of the machine-to-physical table only
    // ever hold words that are accessed atomically.
    unsafe {
        for (first, end) in pages(ram, size_of::<u64>() as u64) {
            map_table(
                tables,
                pool,
                first,
                end,
                m2p::INVALID,
                &[(M2P, CONSTANT | PageFlags::USER_ACCESSIBLE), (M2P_WRITABLE, DATA)],
            )?;
        }
        let pattern = device_pattern(pool)?;
        let mut next = 0;
        for (first, end) in pages(ram, ENTRY) {
            for hole in next..first {
                let frame = pattern.offset(hole % PATTERN_PAGES);
                tables.map(FRAME_TABLE + hole * PAGE, frame, Level::Page, CONSTANT, &mut || pool.take())?;
            }
            map_table(tables, pool, first, end, 0, &[(FRAME_TABLE, DATA)])?;
            next = end;
        }
    }
    Ok(())
}

/// Maps pages `first..end` of a table at each base with its flags, in fresh memory filled with `word`.
///
/// # Safety
/// As for [`map`].
unsafe fn map_table(
    tables: Tables,
    pool: &mut Pool<'_>,
    first: u64,
    end: u64,
    word: u64,
    views: &[(u64, PageFlags)],
) -> Result<(), MapError> {
    let mut page = first;
    while page < end {
        let large = if page.is_multiple_of(LARGE) && end - page >= LARGE { pool.take_large() } else { None };
        let (frame, level) = match large {
            Some(frame) => (frame, Level::Large),
            None => (pool.take().ok_or(MapError::OutOfFrames)?, Level::Page),
        };
        let words = to_usize(level.frames() * PAGE / 8);
        // SAFETY: fresh RAM in the direct map; the views are the caller's promise.
        unsafe {
            super::direct::fill(direct_map(frame.base()).cast(), word, words);
            for &(base, flags) in views {
                tables.map(base + page * PAGE, frame, level, flags, &mut || pool.take())?;
            }
        }
        page += level.frames();
    }
    Ok(())
}

/// Three consecutive frames full of entries that say "device memory".
///
/// # Safety
/// The boot loader's map of all memory is in place.
unsafe fn device_pattern(pool: &mut Pool<'_>) -> Result<Mfn, MapError> {
    let frames = pool.take_together(PATTERN_PAGES).ok_or(MapError::OutOfFrames)?;
    let bytes = PATTERN_PAGES * PAGE;
    // SAFETY: fresh RAM in the direct map, zeroed first: zeroed memory is a valid frame-table entry.
    let entries = unsafe {
        let start = direct_map(frames.base());
        super::direct::fill(start.cast(), 0, to_usize(bytes / 8));
        slice::from_raw_parts(start.cast::<Frame>(), to_usize(bytes / ENTRY))
    };
    FrameTable::new(entries, Mfn(0)).mark_device(Mfn(0), bytes / ENTRY);
    Ok(frames)
}

/// The frame table of all frames up to the end of RAM, in which every frame is reserved or device memory.
///
/// # Safety
/// Our own page tables are loaded, made by [`map`] for the same `ram`; called once.
pub(super) unsafe fn frame_table(ram: &Ranges) -> FrameTable<'static> {
    // SAFETY: every page of the table is mapped, in memory of its own or the read-only pattern, and stays so; all of
    // it was initialised; entries change by atomic operations only.
    let entries = unsafe { slice::from_raw_parts(FRAME_TABLE as *const Frame, to_usize(ram.end().0)) };
    let table = FrameTable::new(entries, Mfn(0));
    let mut gap_start = Mfn(0);
    for range in ram.iter() {
        mark_gap(&table, FrameRange { start: gap_start, end: range.start });
        gap_start = range.end;
    }
    table
}

/// Marks what is no RAM as device memory, as far as its entries begin in pages that the RAM around it brought along;
/// all others show the pattern.
fn mark_gap(table: &FrameTable<'_>, gap: FrameRange) {
    let after = (gap.start.0 * ENTRY).div_ceil(PAGE) * PAGE;
    let first_after = after.div_ceil(ENTRY).clamp(gap.start.0, gap.end.0);
    let before = gap.end.0 * ENTRY / PAGE * PAGE;
    let first_before = before.div_ceil(ENTRY).clamp(first_after, gap.end.0);
    table.mark_device(gap.start, first_after - gap.start.0);
    table.mark_device(Mfn(first_before), gap.end.0 - first_before);
}
