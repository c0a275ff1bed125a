//! The frames by which the hypervisor's heap and tables grow.
//!
//! A frame that a guest gave back may still be in TLBs, writable ([`mm::flush`](crate::mm::flush)). Before a domain gets it,
//! the CPUs in question are flushed. But the heap grows wherever something is allocated, with locks held under which
//! nobody may wait for another CPU. So such a frame never becomes the hypervisor's: the heap takes one that no guest ever
//! had or, when the allocator offers none, one of a stock. That is laid in at boot, before any guest runs, and filled up by
//! [`refill`], which flushes, where no lock is held.

use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;

use super::memory::{clock, mmu};
use super::{flush, machine};
use crate::addr::Mfn;
use crate::mm::buddy::FrameAllocator;
use crate::mm::flush::Stamp;
use crate::mm::frame::FrameTable;
use crate::sync::{Rank, SpinLock};

/// Frames in the full stock: 2 MiB. What guests may make the hypervisor allocate is limited where it is allocated; a new
/// domain, the largest, asks for half of this to be there before it begins ([`control`](super::control)).
pub const FULL: usize = 512;
/// Frames that are added at a time.
const BATCH: usize = 64;

static STOCK: SpinLock<ArrayVec<Mfn, FULL>> = SpinLock::new(Rank::Frames, ArrayVec::new_const());
/// Something was taken since the last time it was filled up.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

/// Lays the stock in. No guest has run.
pub fn lay_in(table: &FrameTable<'_>, allocator: &mut FrameAllocator) {
    let mut stock = STOCK.lock();
    while !stock.is_full() {
        let Some(block) = allocator.alloc(table, 0) else { return };
        stock.push(block.mfn);
    }
}

/// A frame of which no CPU has a translation; `None` if there is none. May be called with locks held, up to the heap's.
pub fn take(table: &FrameTable<'_>, allocator: &SpinLock<FrameAllocator>) -> Option<Mfn> {
    if let Some(mfn) = allocator.lock().alloc_untouched(table) {
        return Some(mfn);
    }
    IS_SHORT.store(true, Ordering::Relaxed);
    STOCK.lock().pop()
}

/// Frames in the stock.
pub fn len() -> usize {
    STOCK.lock().len()
}

/// Fills the stock up, if something was taken and there are free frames. May flush, so the caller holds no lock.
#[inline]
pub fn refill() {
    if IS_SHORT.load(Ordering::Relaxed) {
        add_batch();
    }
}

#[inline(never)]
fn add_batch() {
    let missing = FULL - len();
    let (frames, allocator) = (machine().frames, machine().allocator);
    let mut batch = ArrayVec::<Mfn, BATCH>::new();
    let mut last_use = Stamp::NEVER;
    let mut free = allocator.lock();
    while batch.len() < missing.min(BATCH) {
        let Some(block) = free.alloc(&frames, 0) else { break };
        last_use = last_use.max(block.last_use);
        batch.push(block.mfn);
    }
    drop(free);
    if batch.len() == missing || batch.is_empty() {
        IS_SHORT.store(false, Ordering::Relaxed);
    }
    flush::flush(clock().stale(last_use, mmu().online));
    let mut stock = STOCK.lock();
    // Another CPU may have filled it meanwhile.
    let room = stock.remaining_capacity().min(batch.len());
    stock.extend(batch.drain(..room));
    drop(stock);
    let mut free = allocator.lock();
    batch.into_iter().for_each(|mfn| free.free(&frames, mfn, 0, true));
}
