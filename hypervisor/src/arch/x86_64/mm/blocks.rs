//! The CPUs' blocks ([`percpu`]): memory of each CPU's own, with stacks and guard pages.

use super::layout::{BLOCKS, HEAP};
use super::table::{Level, Tables};
use super::{MapError, PageFlags, translate, zero_page};
use crate::addr::{CpuId, Mfn, PAGE_SIZE};
use crate::arch::acpi::MAX_CPUS;
use crate::arch::percpu::{self, BLOCK_PAGES, BLOCK_SIZE, Backing};

const _: () = assert!(BLOCKS.is_multiple_of(BLOCK_SIZE as u64));
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
    let data = PageFlags::GLOBAL | PageFlags::NO_EXECUTE;
    for cpu in 0..cpus {
        for page in 0..BLOCK_PAGES {
            let (frame, flags) = match percpu::backing(page) {
                Backing::Guard => continue,
                Backing::SharedZero => (shared_zero, data),
                Backing::Data => (fresh(frames)?, data | PageFlags::WRITABLE | PageFlags::DIRTY),
                Backing::Code => (fresh(frames)?, PageFlags::GLOBAL),
            };
            let address = base(CpuId(cpu)) + (page * PAGE_SIZE) as u64;
            // SAFETY: the caller's promise; the frames are the block's own, or shared and read-only.
            unsafe { tables.map(address, frame, Level::Page, flags, frames)? };
        }
    }
    Ok(())
}
