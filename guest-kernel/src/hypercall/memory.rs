//! `memory_op`: giving frames back and getting others. Header: `memory.h`.
//!
//! The answers are counts of extents; fewer than asked for is a refusal of the rest.

use super::{Answer, call};
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall as number;
use pv_abi::memory::{
    MemoryExchange, MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE, XENMEM_INCREASE_RESERVATION,
    XENMEM_POPULATE_PHYSMAP,
};

/// `memory_op` with any command; `argument` is the address of the structure that the command names.
///
/// # Safety
/// Memory that the command writes is the caller's, and frames that it takes away hold nothing that Rust relies on.
pub unsafe fn memory_op(command: u32, argument: u64) -> Answer {
    // SAFETY: what is written is the caller's, and nothing lives in frames that are taken away, as the caller promises.
    unsafe { call(number::MEMORY_OP, [u64::from(command), argument, 0, 0, 0]) }
}

/// The calling domain's extents of 2^`order` frames. `mem_flags` are `XENMEMF_*` bits.
fn reservation(extents: *const u64, count: usize, order: u32, mem_flags: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: extents.addr() as u64,
        nr_extents: count as u64,
        extent_order: order,
        mem_flags,
        domid: DOMID_SELF,
        _pad: [0; 3],
    }
}

/// Adds extents at no particular place; `frames` receives each one's first machine frame (`increase_reservation`).
pub fn increase_reservation(frames: &mut [u64], order: u32, mem_flags: u32) -> Answer {
    let argument = reservation(frames.as_mut_ptr(), frames.len(), order, mem_flags);
    // SAFETY: the call writes the list, and no frame is taken away.
    unsafe { memory_op(XENMEM_INCREASE_RESERVATION, (&raw const argument) as u64) }
}

/// Gives the extents back that start at the machine frames `frames` (`decrease_reservation`).
///
/// # Safety
/// Nothing lives in the frames.
pub unsafe fn decrease_reservation(frames: &[u64], order: u32) -> Answer {
    let argument = reservation(frames.as_ptr(), frames.len(), order, 0);
    // SAFETY: the call reads the list; nothing lives in the frames, as the caller promises.
    unsafe { memory_op(XENMEM_DECREASE_RESERVATION, (&raw const argument) as u64) }
}

/// Adds extents at the pseudo-physical frames that `frames` names; it receives each one's first machine frame
/// (`populate_physmap`).
pub fn populate_physmap(frames: &mut [u64], order: u32, mem_flags: u32) -> Answer {
    let argument = reservation(frames.as_mut_ptr(), frames.len(), order, mem_flags);
    // SAFETY: the call writes the list, and no frame is taken away.
    unsafe { memory_op(XENMEM_POPULATE_PHYSMAP, (&raw const argument) as u64) }
}

/// Swaps extents for others (`exchange`). The answer is 0; the argument's count says how many were swapped.
///
/// # Safety
/// Nothing lives in the frames given, and the lists named are the caller's.
pub unsafe fn exchange(argument: &mut MemoryExchange) -> Answer {
    // SAFETY: nothing lives in the frames given, and the lists are the caller's, as it promises; the argument is borrowed.
    unsafe { memory_op(XENMEM_EXCHANGE, (&raw mut *argument) as u64) }
}
