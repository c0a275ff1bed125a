//! The heap, and the domain's view of its frames: pseudo-physical and machine numbers, its own page tables.
//!
//! The builder maps the image, the boot structures and some slack from [`VIRT_BASE`] up. The slack is the heap: all
//! pages from the boot stack's end to the end of the mapping. Nothing here changes a mapping.

use crate::paging::{self, PAGE_SIZE, PRESENT, WRITABLE};
use crate::probe;
use crate::start::{VIRT_BASE, start_info};
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;
use pv_abi::memory::MACH2PHYS_VIRT_START;
use pv_abi::start_info::StartInfo;
use spin::Mutex;

/// The most heap taken. The slack is 512 KiB to 4.5 MiB.
const HEAP_LIMIT: u64 = 8 << 20;

struct KernelHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Mutex::new(Heap::empty()));

// SAFETY: `Heap` hands out distinct, properly aligned blocks of memory that nothing else uses, and a block comes back
// with the layout it was asked for, as `GlobalAlloc` demands of callers.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}

/// Gives the mapped slack to the allocator. Called once, from the entry code.
pub(crate) fn init(info: &StartInfo) {
    let slack = slack(info);
    let size = slack.end - slack.start;
    if size > 0 {
        // SAFETY: the builder puts nothing behind the boot stack, the pages are mapped writable (the walk found them
        // so), and this is the only use of them.
        unsafe { HEAP.0.lock().init(slack.start as *mut u8, usize::try_from(size).unwrap_or(0)) };
    }
}

/// Bytes of heap, and how many of them are free.
pub fn heap_size() -> (usize, usize) {
    let heap = HEAP.0.lock();
    (heap.size(), heap.free())
}

/// The writable pages behind the boot stack page, which itself follows the page tables.
fn slack(info: &StartInfo) -> Range<u64> {
    let start = info.pt_base + (info.nr_pt_frames + 1) * PAGE_SIZE;
    let mut end = start;
    while end - start < HEAP_LIMIT && entry(end).is_some_and(|entry| entry & (PRESENT | WRITABLE) == PRESENT | WRITABLE)
    {
        end += PAGE_SIZE;
    }
    start..end
}

/// The first address behind the builder's mapping of image, boot structures and slack.
pub fn mapped_end() -> u64 {
    slack(start_info()).end
}

/// The machine frame of pseudo-physical frame `pfn`, from the builder's table; `None` beyond the domain's memory.
pub fn machine_frame(pfn: u64) -> Option<u64> {
    let info = start_info();
    if pfn >= info.nr_pages {
        return None;
    }
    // SAFETY: the builder mapped `nr_pages` entries from here, and nothing unmaps them.
    Some(unsafe { (info.mfn_list as *const u64).add(usize::try_from(pfn).ok()?).read() })
}

/// The machine frame behind an address of the builder's mapping.
pub fn machine_frame_at(address: u64) -> Option<u64> {
    machine_frame(address.checked_sub(VIRT_BASE)? / PAGE_SIZE)
}

/// What the machine-to-physical table says of machine frame `mfn`; `None` if that part of the table isn't readable.
pub fn pseudo_physical_frame(mfn: u64) -> Option<u64> {
    probe::read(MACH2PHYS_VIRT_START.checked_add(mfn.checked_mul(8)?)?).ok()
}

/// The address in the builder's mapping of machine frame `mfn`, if it is the domain's.
pub fn address_of_frame(mfn: u64) -> Option<u64> {
    let pfn = pseudo_physical_frame(mfn)?;
    // The table holds other domains' numbers too: only a frame that our own table agrees on is ours.
    (machine_frame(pfn)? == mfn).then(|| VIRT_BASE + pfn * PAGE_SIZE)
}

/// The domain's level 1 page-table entry for `address`; `None` if a table on the way is missing.
pub fn entry(address: u64) -> Option<u64> {
    let root = machine_frame_at(start_info().pt_base)?;
    paging::leaf(root, address, |table, index| {
        let table = address_of_frame(table)?;
        probe::read(table + 8 * index as u64).ok()
    })
}
