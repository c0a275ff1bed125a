//! The allocator of Rust's collections.
//!
//! It starts with the slack of the builder's mapping, all pages from the boot stack's end to the end of the mapping,
//! and grows behind it, where the address space is free.

use super::numbers::{entry, set_mapped_end};
use super::{MEMORY, Memory, mapped_end};
use crate::paging::{PAGE_SIZE, PRESENT, Rights, WRITABLE};
use crate::sync::Mutex;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;
use pv_abi::start_info::StartInfo;

/// The most slack taken. The builder leaves 512 KiB to 4.5 MiB.
const SLACK_LIMIT: u64 = 8 << 20;
/// The least bytes that the heap grows by.
const GROWTH: u64 = 256 << 10;
/// What is free whenever the memory is taken.
const RESERVE: usize = 64 << 10;
/// The most heap there is, far below the end of the address space.
const LIMIT: usize = 512 << 20;

struct KernelHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Mutex::new(Heap::empty()));

// SAFETY: `Heap` hands out distinct, properly aligned blocks of memory that nothing else uses, and a block comes back
// with the layout it was asked for, as `GlobalAlloc` demands of callers.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        let block = heap.allocate_first_fit(layout).or_else(|()| {
            // Without the memory, which is not set up or held by our caller, the heap stays as it is.
            let mut memory = MEMORY.get().and_then(|memory| memory.as_ref().ok()?.try_lock()).ok_or(())?;
            grow(&mut heap, &mut memory, layout).ok_or(())?;
            heap.allocate_first_fit(layout)
        });
        block.map_or(null_mut(), NonNull::as_ptr)
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
    set_mapped_end(slack.end);
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

/// Whether somebody is changing the heap, or has the memory: where a panic finds this, something is half done.
pub fn is_busy() -> bool {
    HEAP.0.is_locked() || MEMORY.get().is_some_and(|memory| memory.as_ref().is_ok_and(Mutex::is_locked))
}

/// The writable pages behind the boot stack page, which itself follows the page tables.
fn slack(info: &StartInfo) -> Range<u64> {
    let start = info.pt_base + (info.nr_pt_frames + 1) * PAGE_SIZE;
    let mut end = start;
    while end - start < SLACK_LIMIT
        && entry(end).is_some_and(|entry| entry & (PRESENT | WRITABLE) == PRESENT | WRITABLE)
    {
        end += PAGE_SIZE;
    }
    start..end
}

/// Makes the heap large enough for what code may allocate while it holds the memory, and the heap can't grow.
pub(super) fn prepare(memory: &mut Memory) {
    let mut heap = HEAP.0.lock();
    if heap.free() < RESERVE {
        // Without frames the heap stays as it is.
        let _ = grow(&mut heap, memory, Layout::new::<[u8; RESERVE]>());
    }
}

/// Maps more pages behind the heap, enough for one block of `layout`.
fn grow(heap: &mut Heap, memory: &mut Memory, layout: Layout) -> Option<()> {
    let end = heap.top() as u64;
    // The block may have to be aligned, and its neighbours have headers.
    let need = layout.size().checked_add(layout.align())?.checked_add(64)?;
    let by = u64::try_from(need).ok()?.next_multiple_of(PAGE_SIZE).max(GROWTH);
    let bytes = usize::try_from(by).ok()?;
    if end < mapped_end() || heap.size().checked_add(bytes)? > LIMIT {
        return None;
    }
    memory.map(end..end + by, Rights::Write).ok()?;
    // SAFETY: the pages are mapped now, behind the heap's end, and nothing else uses them.
    unsafe { heap.extend(bytes) };
    Some(())
}
