//! The domain's vCPUs: how many there are, which one runs, and starting others.

mod start;

use crate::hypercall;
use crate::thread::stack;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::Ordering;

pub use start::{context, map_stack, start};

/// The most vCPUs that this kernel runs on: those with a record in the shared page.
pub const LIMIT: usize = pv_abi::shared_info::XEN_LEGACY_MAX_VCPUS;

/// Addresses of the stacks of all vCPUs but the first, which stays on the boot stack: a slot for each number.
const STACKS: u64 = crate::memory::KERNEL_PAGES.end;
/// Bytes of a slot. The lowest page is not mapped.
const SLOT: u64 = 64 << 10;
/// Bytes of all slots.
pub(crate) const STACKS_SIZE: u64 = SLOT * LIMIT as u64;

/// How many vCPUs the domain has: the first number that `VCPUOP_is_up` doesn't know. At least 1.
pub fn count() -> u32 {
    /// The ABI's limit for a PV domain.
    const MOST: u32 = 8192;
    (0..MOST).find(|id| hypercall::vcpu_is_up(*id).is_err()).unwrap_or(MOST).max(1)
}

/// The number of the vCPU that asks.
///
/// It is found by the stack, not by GS: test kernels change GS at will, and a trap must find its way even then. What
/// runs on a stack that isn't in [`STACKS`] is the first vCPU. A thread's stack says itself who runs it.
pub fn current() -> u32 {
    if let Some(top) = stack::current_top() {
        return top.vcpu.load(Ordering::Relaxed);
    }
    let pointer: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    let slot = pointer.checked_sub(STACKS).and_then(|offset| u32::try_from(offset / SLOT).ok());
    slot.filter(|slot| (*slot as usize) < LIMIT).unwrap_or(0)
}

/// The stack of a vCPU other than the first.
fn stack_of(id: u32) -> Range<u64> {
    let slot = STACKS + u64::from(id) * SLOT;
    slot + crate::paging::PAGE_SIZE..slot + SLOT
}

/// The stack that the code runs on which asks.
pub fn current_stack() -> Range<u64> {
    stack::current_range().unwrap_or_else(|| match current() {
        0 => crate::start::boot_stack(),
        id => stack_of(id),
    })
}
