//! The hypervisor's heap: a free list in a range of addresses that grows by pages on demand.
//!
//! An allocation that finds no memory fails; code that runs for a guest uses the fallible ways to allocate
//! (`try_reserve` and the like) and turns that into an error for the guest.
//!
//! Growing asks the frame source ([`super::set_frame_source`]) and so takes the frame allocator's lock. So nothing may
//! allocate while it holds a lock from [`Rank::Heap`] on, which each allocation checks, as any of them might be the one
//! that grows. Memory may be given back anywhere: no other lock is taken under that of the free list.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::ptr::NonNull;

use linked_list_allocator::Heap as FreeList;
use spin::mutex::SpinMutex;

use super::layout::{HEAP, HEAP_END};
use super::table::take_frame;
use super::{PageFlags, map_hypervisor_page, to_usize};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::sync::{self, Rank, SpinLock};

/// Pages added at a time, at least.
const STEP: usize = 16;

struct Heap {
    free: SpinMutex<FreeList>,
    /// Held while the heap grows, so that pages are added in order.
    mapped: SpinLock<Mapped>,
}

struct Mapped {
    /// End of the mapped part.
    end: u64,
    /// A frame that could not be mapped, because there was none for a page table.
    spare: Option<Mfn>,
}

#[global_allocator]
static THE_HEAP: Heap = Heap {
    free: SpinMutex::new(FreeList::empty()),
    mapped: SpinLock::new(Rank::Heap, Mapped { end: HEAP, spare: None }),
};

impl Heap {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.free.lock().allocate_first_fit(layout).ok()
    }

    /// Adds at least `bytes`, or as much as there is; returns whether it was enough.
    fn grow(&self, bytes: usize) -> bool {
        let mut mapped = self.mapped.lock();
        let start = mapped.end;
        let pages = bytes.div_ceil(PAGE_SIZE).max(STEP);
        let flags = PageFlags::WRITABLE | PageFlags::NO_EXECUTE | PageFlags::GLOBAL | PageFlags::DIRTY;
        for _ in 0..pages {
            if mapped.end >= HEAP_END {
                break;
            }
            let Some(frame) = mapped.spare.take().or_else(take_frame) else { break };
            // SAFETY: the address is in the heap's range, above all that is mapped; the frame is the hypervisor's own,
            // and nothing else refers to it.
            if unsafe { map_hypervisor_page(mapped.end, frame, flags) }.is_err() {
                mapped.spare = Some(frame);
                break;
            }
            mapped.end += PAGE_SIZE as u64;
        }
        let grown = to_usize(mapped.end - start);
        let mut free = self.free.lock();
        if grown > 0 {
            // SAFETY: `start..end` was just mapped, adjoins what the list had before, and belongs to the heap alone.
            unsafe {
                if free.size() == 0 {
                    free.init(start as *mut u8, grown);
                } else {
                    free.extend(grown);
                }
            }
        }
        grown >= bytes
    }
}

// SAFETY: memory comes from a free list that hands out no byte twice, aligned as asked (linked_list_allocator's
// promise); it lies in pages that are mapped for good, for all CPUs; the list is under a lock.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        sync::check(Rank::Heap);
        loop {
            if let Some(found) = self.take(layout) {
                return found.as_ptr();
            }
            // Room for the worst alignment, and for the list's own rounding.
            let Some(bytes) = layout.size().checked_add(layout.align() + PAGE_SIZE) else { return ptr::null_mut() };
            if bytes as u64 > HEAP_END - HEAP || !self.grow(bytes) {
                // What was added may do all the same, or another CPU may have given memory back.
                return self.take(layout).map_or(ptr::null_mut(), NonNull::as_ptr);
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(pointer) = NonNull::new(pointer) else { return };
        // SAFETY: by the trait's contract the memory came from `alloc` with this layout and is used no more.
        unsafe { self.free.lock().deallocate(pointer, layout) };
    }
}
