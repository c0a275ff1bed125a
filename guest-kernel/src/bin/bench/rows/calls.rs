//! Hypercalls that do little, so that what counts is the way in and out.

use crate::meter::{Effort, Measured};
use alloc::vec;
use guest_kernel::hypercall::{self, raw};
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::sched::SCHEDOP_YIELD;
use pv_abi::trap::FLAT_KERNEL_SS;
use pv_abi::version::XENVER_VERSION;

/// Entries of a multicall.
const LIST: usize = 64;

/// A hypercall number that nothing has.
const UNKNOWN: u64 = 63;

/// `xen_version`, for the version number.
pub fn null(effort: Effort) -> Measured {
    // SAFETY: the command has no memory argument.
    effort.count(1, || unsafe { raw(u64::from(number::XEN_VERSION), [u64::from(XENVER_VERSION), 0, 0, 0, 0]) })
}

/// A call that is refused by its number.
pub fn unknown(effort: Effort) -> Measured {
    effort.count(1, || {
        // SAFETY: there is no such call.
        let result = unsafe { raw(UNKNOWN, [0; 5]) };
        result - Errno::ENOSYS.code()
    })
}

/// `stack_switch`. This kernel has no user mode yet, so the stack is never used.
pub fn stack_switch(effort: Effort) -> Measured {
    let stack = 0xffff_ffff_8010_0000;
    // SAFETY: see above.
    effort.count(1, || unsafe { raw(u64::from(number::STACK_SWITCH), [u64::from(FLAT_KERNEL_SS), stack, 0, 0, 0]) })
}

/// `fpu_taskswitch`, clearing and setting in turn, as a kernel does that switches tasks.
pub fn fpu_taskswitch(effort: Effort) -> Measured {
    let call = |on| {
        // SAFETY: this kernel uses no FPU.
        unsafe { raw(u64::from(number::FPU_TASKSWITCH), [on, 0, 0, 0, 0]) }
    };
    effort.count(2, || call(1) | call(0))
}

/// `sched_op(yield)` with nothing else to run.
pub fn sched_yield(effort: Effort) -> Measured {
    // SAFETY: the command has no argument.
    effort.count(1, || unsafe { raw(u64::from(number::SCHED_OP), [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]) })
}

/// An entry of a multicall: a null hypercall, 64 of them in a list.
pub fn multicall_entry(effort: Effort) -> Measured {
    let entry = hypercall::multicall_entry(number::XEN_VERSION, [u64::from(XENVER_VERSION), 0, 0, 0, 0, 0]);
    let mut list = vec![entry; LIST];
    let address = list.as_mut_ptr() as u64;
    effort.count(LIST as u64, || {
        // SAFETY: the call writes the results into the list.
        unsafe { raw(u64::from(number::MULTICALL), [address, LIST as u64, 0, 0, 0]) }
    })
}
