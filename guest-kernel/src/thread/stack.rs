//! Stacks of threads: pages of their own behind the vCPUs' stacks, each with an unmapped page below.
//!
//! At the top of a stack is who runs on it: there [`vcpu::current`](crate::vcpu::current) and
//! [`current`](super::current) look.

use super::Thread;
use crate::memory::{self, Error, KERNEL_PAGES};
use crate::paging::{PAGE_SIZE, Rights};
use crate::sync::Mutex;
use crate::vcpu;
use alloc::vec::Vec;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, AtomicU32};

/// Bytes of a slot. The lowest page is not mapped.
const SLOT: u64 = 16 << 10;
/// The slots' addresses.
const SLOTS: Range<u64> = {
    let start = KERNEL_PAGES.end + vcpu::STACKS_SIZE;
    start..start + SLOT * super::LIMIT as u64
};

/// What is at the top of a stack.
#[repr(C, align(16))]
pub struct Top {
    /// The vCPU that runs the thread now.
    pub vcpu: AtomicU32,
    /// The thread; it holds a reference as long as it runs.
    pub thread: AtomicPtr<Thread>,
}

/// Stacks that have been mapped and aren't in use, and how many were ever mapped.
static FREE: Mutex<(Vec<u16>, u16)> = Mutex::new((Vec::new(), 0));

/// A stack that nobody else uses. Given back when it is dropped, and mapped for good.
#[derive(Debug)]
pub struct Stack(u16);

impl Stack {
    /// Takes one; there are [`LIMIT`](super::LIMIT).
    ///
    /// # Errors
    /// When there are no frames or no addresses for it.
    pub fn new() -> Result<Stack, Error> {
        let (free, mapped) = &mut *FREE.lock();
        if let Some(slot) = free.pop() {
            return Ok(Stack(slot));
        }
        if usize::from(*mapped) == super::LIMIT {
            return Err(Error::OutOfFrames);
        }
        // All that is ever mapped can come back without an allocation.
        free.try_reserve(usize::from(*mapped) + 1).map_err(|_| Error::OutOfFrames)?;
        let stack = Stack(*mapped);
        memory::lock()?.map(stack.range(), Rights::Write)?;
        *mapped += 1;
        Ok(stack)
    }

    /// Its addresses, without the page below.
    pub fn range(&self) -> Range<u64> {
        range(u64::from(self.0))
    }

    /// Its top.
    pub fn top(&self) -> *const Top {
        top(u64::from(self.0))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        FREE.lock().0.push(self.0);
    }
}

fn range(slot: u64) -> Range<u64> {
    let start = SLOTS.start + slot * SLOT;
    start + PAGE_SIZE..start + SLOT
}

fn top(slot: u64) -> *const Top {
    (range(slot).end - size_of::<Top>() as u64) as *const Top
}

/// The slot that the stack pointer is in, if this is a thread.
fn current() -> Option<u64> {
    let pointer: u64;
    // SAFETY: reads a register. Not `pure`: a thread keeps its slot, but code that is inlined into two may not share it.
    unsafe { asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    SLOTS.contains(&pointer).then(|| (pointer - SLOTS.start) / SLOT)
}

/// The top of the stack of the thread that asks; `None` if it is none.
pub fn current_top() -> Option<&'static Top> {
    // SAFETY: we run on the stack, so it is mapped, and its top was written before it was first used; it is made of
    // atomics, and stacks stay mapped.
    current().map(|slot| unsafe { &*top(slot) })
}

/// The stack of the thread that asks; `None` if it is none.
pub fn current_range() -> Option<Range<u64>> {
    current().map(range)
}
