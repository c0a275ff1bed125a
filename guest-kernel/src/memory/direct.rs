//! The direct map of the frames behind the builder's mapping, and the first words of the frame table.
//!
//! It grows by what one level 1 table maps. The tables for the first steps are frames below the image, which the
//! builder mapped and nobody uses; later ones come out of the steps before.

use super::batch::Batch;
use super::frames::Editor;
use super::numbers::{self, machine_frame_at, mapped_end};
use super::{Error, Memory, WINDOWS};
use crate::hypercall::{Owner, mmu_update, mmuext_op, vm_assist};
use crate::paging::frames::{FrameList, FrameTable};
use crate::paging::places::Places;
use crate::paging::tree::{Missing, Root, edit};
use crate::paging::{Mfn, PAGE_SIZE, PRESENT, Pfn, Rights, WRITABLE, kernel_page};
use crate::start::{VIRT_BASE, image, start_info};
use alloc::vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::start_info::{StartFlags, StartInfo};
use pv_abi::trap::{VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT};

/// The address of frame 0 in the direct map, where it had one: the first of the guest's part of the upper half.
pub const DIRECT_MAP: u64 = 0xffff_8800_0000_0000;

/// What one step maps: all that a level 1 table can.
const STEP: u64 = 512;

/// The first frame that has its address in the direct map. There is none before the map is set up.
static START: AtomicU64 = AtomicU64::new(u64::MAX);

/// Whether a frame has its address in the direct map.
pub(super) fn covers(pfn: Pfn) -> bool {
    pfn.0 >= START.load(Ordering::Relaxed)
}

impl Memory {
    /// Sets the memory up: maps all frames, and finds those that are free.
    pub(super) fn new() -> Result<Memory, Error> {
        // SAFETY: empty lists ask for nothing.
        unsafe { mmu_update(&[], None, Owner::SELF).and(mmuext_op(&[], None, Owner::SELF)) }
            .map_err(|_| Error::Unsupported)?;
        // The table of all machine frames is not for user mode. Xen wants to know before it sees the first
        // root table; a hypervisor without the switch shows the table anyway.
        let _ = vm_assist(VMASST_CMD_ENABLE, VMASST_TYPE_M2P_STRICT);
        let info = start_info();
        let root = machine_frame_at(info.pt_base).map(Mfn).ok_or(Error::Unsupported)?;
        let mut memory = Memory {
            frames: frames_below_image(),
            batch: Batch::new(),
            root,
            active: root,
            tables: FrameList::new(),
            windows: Places::new(WINDOWS),
        };
        let start = (mapped_end() - VIRT_BASE) / PAGE_SIZE;
        START.store(start, Ordering::Relaxed);
        memory.take_frames(info, start)?;
        Ok(memory)
    }

    /// Maps the frames from `start` on, step by step, and makes those free that nobody uses.
    fn take_frames(&mut self, info: &StartInfo, start: u64) -> Result<(), Error> {
        let p2m = info.first_p2m_pfn..info.first_p2m_pfn + info.nr_p2m_frames;
        let words = place_of_words(info, start, &[p2m.clone(), module(info)]).ok_or(Error::OutOfFrames)?;
        let used = [p2m.clone(), module(info), words.clone()];
        let mut waiting = start;
        for step in start / STEP..info.nr_pages.div_ceil(STEP) {
            let end = info.nr_pages.min((step + 1) * STEP);
            self.map_frames(start.max(step * STEP)..end, &p2m)?;
            if words.end > end {
                continue;
            }
            if self.frames.size() < info.nr_pages {
                let frames = core::mem::replace(&mut self.frames, FrameTable::new(&mut []));
                self.frames = frames.moved_to(words_at(words.start, info.nr_pages));
            }
            // Backwards, so that low frames are given first.
            let free = (waiting..end).rev().filter(|pfn| !used.iter().any(|used| used.contains(pfn)));
            free.filter(|pfn| exists(*pfn)).for_each(|pfn| self.frames.add(Pfn(pfn)));
            waiting = end;
        }
        Ok(())
    }

    /// Maps frames at their addresses, for reading only where there may be page tables: the frames of the table at
    /// INIT_P2M.
    fn map_frames(&mut self, pfns: Range<u64>, p2m: &Range<u64>) -> Result<(), Error> {
        let range = DIRECT_MAP + pfns.start * PAGE_SIZE..DIRECT_MAP + pfns.end * PAGE_SIZE;
        self.edit(range, Missing::Make, &mut |_, address, _| {
            let pfn = (address - DIRECT_MAP) / PAGE_SIZE;
            let rights = if p2m.contains(&pfn) { Rights::Read } else { Rights::Write };
            Ok(exists(pfn).then(|| kernel_page(numbers::mfn(Pfn(pfn)), rights)))
        })?;
        self.commit()
    }

    /// Edits the kernel's part of the address space, which all address spaces share.
    pub(super) fn edit(
        &mut self,
        range: Range<u64>,
        missing: Missing,
        leaf: &mut impl FnMut(&mut Editor<'_>, u64, u64) -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        let root = Root { table: self.root, level: 4, live: true };
        let mut tables = core::mem::take(&mut self.tables);
        let mut editor = Editor { memory: self, fresh: &mut FrameList::new(), sealed: &mut tables };
        let edited = edit(&mut editor, root, range, missing, leaf);
        self.tables = tables;
        edited
    }
}

/// A first frame table, with the pages that the builder mapped below the image.
fn frames_below_image() -> FrameTable<'static> {
    let below = (image().start - VIRT_BASE) / PAGE_SIZE;
    let mut frames = FrameTable::new(vec![0; usize::try_from(below).unwrap_or(0)].leak());
    let writable = |pfn: &u64| {
        numbers::entry(VIRT_BASE + pfn * PAGE_SIZE)
            .is_some_and(|entry| entry & (PRESENT | WRITABLE) == PRESENT | WRITABLE)
    };
    (0..below).rev().filter(writable).for_each(|pfn| frames.add(Pfn(pfn)));
    frames
}

/// The frames of the module, if there is one behind the builder's mapping.
fn module(info: &StartInfo) -> Range<u64> {
    if StartFlags::from_bits_retain(info.flags).contains(StartFlags::MOD_START_PFN) {
        info.mod_start..info.mod_start + info.mod_len.div_ceil(PAGE_SIZE)
    } else {
        0..0
    }
}

/// The first frames in a row, none of them used, that are enough for a frame table's words.
fn place_of_words(info: &StartInfo, start: u64, used: &[Range<u64>]) -> Option<Range<u64>> {
    let frames = (4 * info.nr_pages).div_ceil(PAGE_SIZE);
    let mut place = start..start + frames;
    while let Some(used) = used.iter().find(|used| used.start < place.end && place.start < used.end) {
        place = used.end..used.end + frames;
    }
    (place.end <= info.nr_pages && place.clone().all(exists)).then_some(place)
}

/// The bytes of the frames from `pfn` on as the words of `frames` frames.
fn words_at(pfn: u64, frames: u64) -> &'static mut [u32] {
    let words = numbers::address(Pfn(pfn)) as *mut u32;
    // SAFETY: the frames from `place_of_words` on are mapped writable and in a row by now, for good, and kept out of the
    // frame table. Any bits are a word.
    unsafe { core::slice::from_raw_parts_mut(words, usize::try_from(frames).unwrap_or(0)) }
}

/// Whether there is memory behind a pseudo-physical number; a table may have holes.
fn exists(pfn: u64) -> bool {
    numbers::machine_frame(pfn).is_some_and(|mfn| mfn != u64::MAX)
}
