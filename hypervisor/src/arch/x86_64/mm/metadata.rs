//! The two tables with an entry per frame: frame table and machine-to-physical table.
//!
//! Where the RAM has holes, the frame table shows one and the same read-only pattern, "device memory", so that any frame
//! number below its end can be looked up. The machine-to-physical table is made of large pages, each for 1 GiB of the
//! machine: those without any RAM are not there. Toolstacks of Xen map the table by them
//! (`XENMEM_machphys_mfn_list`), and want each to be whole.

use core::slice;

use super::layout::{FRAME_TABLE, M2P, M2P_WRITABLE};
use super::pool::Pool;
use super::table::{Level, Tables};
use super::{MapError, PageFlags, direct_map, m2p, to_usize, translate};
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

/// Pages `first..end` of the frame table, for each range of RAM; no page twice.
fn frame_table_pages(ram: &Ranges) -> impl Iterator<Item = (u64, u64)> + '_ {
    ram.iter().scan(0, |next, range| {
        let first = (range.start.0 * ENTRY / PAGE).max(*next);
        *next = (range.end.0 * ENTRY).div_ceil(PAGE).max(first);
        Some((first, *next))
    })
}

/// The large pages of the machine-to-physical table, by number, that have entries of RAM.
fn m2p_pages(ram: &Ranges) -> impl Iterator<Item = u64> + '_ {
    /// Frames whose entries fill one.
    const FRAMES: u64 = LARGE * PAGE / size_of::<u64>() as u64;
    ram.iter()
        .scan(0, |next, range| {
            let first = (range.start.0 / FRAMES).max(*next);
            *next = range.end.0.div_ceil(FRAMES).max(first);
            Some(first..*next)
        })
        .flatten()
}

/// Maps both tables for all RAM and fills them: no frame has an owner or a number.
///
/// # Safety
/// As for [`Tables::map`], with the boot loader's map of all memory in place.
pub(super) unsafe fn map(tables: Tables, ram: &Ranges, pool: &mut Pool<'_>) -> Result<(), MapError> {
    // SAFETY: nobody else edits the tables, as the caller promises; the frames are fresh, and the two views of the
    // machine-to-physical table only ever hold words that are accessed atomically.
    unsafe {
        for number in m2p_pages(ram) {
            let frame = pool.take_large().ok_or(MapError::OutOfFrames)?;
            super::direct::fill(direct_map(frame.base()).cast(), m2p::INVALID, to_usize(LARGE * PAGE / 8));
            for (base, flags) in [(M2P, CONSTANT | PageFlags::USER_ACCESSIBLE), (M2P_WRITABLE, DATA)] {
                tables.map(base + number * LARGE * PAGE, frame, Level::Large, flags, &mut || pool.take())?;
            }
        }
        let pattern = device_pattern(pool)?;
        let mut next = 0;
        for (first, end) in frame_table_pages(ram) {
            for hole in next..first {
                let frame = pattern.offset(hole % PATTERN_PAGES);
                tables.map(FRAME_TABLE + hole * PAGE, frame, Level::Page, CONSTANT, &mut || pool.take())?;
            }
            map_frame_table(tables, pool, first, end)?;
            next = end;
        }
    }
    Ok(())
}

/// Maps pages `first..end` of the frame table in fresh memory, zeroed: all frames are reserved.
///
/// # Safety
/// As for [`map`].
unsafe fn map_frame_table(tables: Tables, pool: &mut Pool<'_>, first: u64, end: u64) -> Result<(), MapError> {
    let mut page = first;
    while page < end {
        let large = if page.is_multiple_of(LARGE) && end - page >= LARGE { pool.take_large() } else { None };
        let (frame, level) = match large {
            Some(frame) => (frame, Level::Large),
            None => (pool.take().ok_or(MapError::OutOfFrames)?, Level::Page),
        };
        let words = to_usize(level.frames() * PAGE / 8);
        // SAFETY: fresh RAM in the direct map; the mapping is the caller's promise.
        unsafe {
            super::direct::fill(direct_map(frame.base()).cast(), 0, words);
            tables.map(FRAME_TABLE + page * PAGE, frame, level, DATA, &mut || pool.take())?;
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

/// The frame table of all frames up to the end of RAM, in which every frame is reserved, the machine-to-physical
/// table's, or device memory.
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
    for number in m2p_pages(ram) {
        table.show_read_only(m2p_frames(number).expect("it was just mapped"), LARGE);
    }
    table
}

/// The first of the frames that hold large page `number` of the machine-to-physical table; `None` if it isn't there.
pub fn m2p_frames(number: u64) -> Option<Mfn> {
    translate(M2P_WRITABLE + number * LARGE * PAGE)
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
