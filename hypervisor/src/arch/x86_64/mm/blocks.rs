//! The CPUs' blocks ([`percpu`]): memory of each CPU's own, with stacks and guard pages.

use spin::Once;

use super::layout::{BLOCKS, HEAP};
use super::table::{Level, Tables, page_slot};
use super::{MapError, PageFlags, tlb, translate, zero_page};
use crate::addr::{CpuId, Mfn, PAGE_SIZE};
use crate::arch::acpi::MAX_CPUS;
use crate::arch::percpu::{self, BLOCK_PAGES, BLOCK_SIZE, Backing};

const _: () = assert!(BLOCKS.is_multiple_of(BLOCK_SIZE as u64) && BLOCK_PAGES <= 512);
const _: () = assert!(BLOCKS + (MAX_CPUS * BLOCK_SIZE) as u64 <= HEAP);

/// Where a CPU's block is. All blocks are mapped before the second CPU starts.
pub const fn base(cpu: CpuId) -> u64 {
    BLOCKS + cpu.0 as u64 * BLOCK_SIZE as u64
}

/// The frame behind page `page` of a CPU's block; `None` for a guard page and for a CPU that the machine doesn't have.
pub fn frame(cpu: CpuId, page: usize) -> Option<Mfn> {
    debug_assert!(page < BLOCK_PAGES);
    translate(base(cpu) + (page * PAGE_SIZE) as u64)
}

/// The frame of zeros that stands in for pages of the GDT that a guest has not set.
static SHARED_ZERO: Once<Mfn> = Once::new();

const DATA: PageFlags =
    PageFlags::GLOBAL.union(PageFlags::NO_EXECUTE).union(PageFlags::WRITABLE).union(PageFlags::DIRTY);
const ZERO: PageFlags = PageFlags::GLOBAL.union(PageFlags::NO_EXECUTE);

/// What a page of a block is to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Nothing: an access faults.
    Nothing,
    /// Zeros that can't be written.
    Zeros,
    /// This frame, for reading and writing.
    Frame(Mfn),
}

/// Changes what a page of this CPU's block shows.
///
/// # Safety
/// The page is one of those that show a guest's descriptors, and a frame shown is held as a descriptor page until it is
/// no longer.
pub unsafe fn show(cpu: CpuId, page: usize, what: Shown) {
    const USED: PageFlags = PageFlags::PRESENT.union(PageFlags::ACCESSED);
    let address = base(cpu) + (page * PAGE_SIZE) as u64;
    let entry = match what {
        Shown::Nothing => 0,
        Shown::Zeros => SHARED_ZERO.get().expect("blocks are mapped").base().0 | (ZERO | USED).bits(),
        Shown::Frame(mfn) => mfn.base().0 | (DATA | USED).bits(),
    };
    let slot = page_slot(address).expect("all pages of a block share one L1 table");
    // SAFETY: the slot is that of a page of this CPU's block, which no other CPU edits or accesses; the caller answers
    // for the frame. The old translation goes with the flush.
    unsafe { slot.write_volatile(entry) };
    tlb::flush_address(address);
}

/// Maps the blocks of CPUs `0..cpus`, zeroed.
///
/// # Safety
/// As for [`Tables::map`]; `frames` gives unused RAM.
pub(super) unsafe fn map_all(
    tables: Tables,
    cpus: u32,
    frames: &mut dyn FnMut() -> Option<Mfn>,
) -> Result<(), MapError> {
    let fresh = |frames: &mut dyn FnMut() -> Option<Mfn>| {
        let frame = frames().ok_or(MapError::OutOfFrames)?;
        // SAFETY: the frame is unused RAM.
        unsafe { zero_page(frame) };
        Ok(frame)
    };
    let shared_zero = fresh(frames)?;
    SHARED_ZERO.call_once(|| shared_zero);
    for cpu in 0..cpus {
        for page in 0..BLOCK_PAGES {
            let (frame, flags) = match percpu::backing(page) {
                Backing::Guard => continue,
                Backing::SharedZero => (shared_zero, ZERO),
                Backing::Data => (fresh(frames)?, DATA),
                Backing::Code => (fresh(frames)?, PageFlags::GLOBAL),
            };
            let address = base(CpuId(cpu)) + (page * PAGE_SIZE) as u64;
            // SAFETY: nobody else edits the tables, as the caller promises; the frames are the block's own, or shared and
            // read-only.
            unsafe { tables.map(address, frame, Level::Page, flags, frames)? };
        }
    }
    Ok(())
}
