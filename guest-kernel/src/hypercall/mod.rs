//! Hypercalls: `syscall` with a number in `rax`. Register convention: `xen/arch-x86/xen-x86_64.h`.
//!
//! [`raw`] passes anything, for tests of bad arguments; the rest are typed calls for kernels. A typed call is safe
//! where no argument can make the hypervisor write to memory that Rust believes to be its own, or take such memory away.
//!
//! | file | calls |
//! |---|---|
//! | `mmu` | `mmu_update`, `mmuext_op`, `update_va_mapping` |
//! | `descriptors` | `set_gdt`, `update_descriptor` |
//! | `memory` | `memory_op` |
//! | `entry` | trap table, callbacks, kernel stack, segment bases, `iret`, debug registers, `vm_assist` |
//! | `multicall` | lists of calls |

mod descriptors;
mod entry;
mod memory;
mod mmu;
mod multicall;

pub use descriptors::{set_gdt, update_descriptor};
pub use entry::{
    fpu_taskswitch, get_debugreg, iret, register_callback, set_debugreg, set_segment_base, set_trap_table,
    stack_switch, unregister_callback, vm_assist,
};
pub use memory::{decrease_reservation, exchange, increase_reservation, memory_op, populate_physmap};
pub use mmu::{Flush, Owner, Vcpus, mmu_update, mmuext, mmuext_op, update_va_mapping, update_va_mapping_otherdomain};
pub use multicall::{entry as multicall_entry, multicall, result as multicall_result};

use core::arch::asm;
use pv_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::physdev::{PHYSDEVOP_SET_IOPL, PhysdevSetIopl};
use pv_abi::sched::{SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};
use pv_abi::vcpu::VCPUOP_IS_UP;

/// What a hypercall answers: a number from 0 up, or an error.
pub type Answer = Result<u64, Errno>;

/// Makes hypercall `nr` and returns the result register as it is.
///
/// # Safety
/// Memory that the call writes, as the ABI describes call and arguments, must be the caller's to write; and the call
/// must not change what Rust relies on (mappings, stack, trap handlers).
pub unsafe fn raw(nr: u64, args: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the hypervisor destroys rax, rcx, r11 and at most the argument registers; the memory and control effects
    // are the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => result,
            inlateout("rdi") args[0] => _,
            inlateout("rsi") args[1] => _,
            inlateout("rdx") args[2] => _,
            inlateout("r10") args[3] => _,
            inlateout("r8") args[4] => _,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Splits a result register into answer and error. A number that no error has counts as `EINVAL`.
pub fn answer(result: i64) -> Answer {
    u64::try_from(result).map_err(|_| Errno::from_code(result).unwrap_or(Errno::EINVAL))
}

/// [`raw`], with the result as an [`Answer`].
///
/// # Safety
/// As [`raw`].
pub unsafe fn call(nr: u32, args: [u64; 5]) -> Answer {
    // SAFETY: the same promise.
    answer(unsafe { raw(u64::from(nr), args) })
}

/// `xen_version` with command `command`; `buffer` is filled with what the command gives.
///
/// # Safety
/// Nothing beyond `buffer` may be written: its type is the one that the ABI names for the command.
pub unsafe fn xen_version<T>(command: u32, buffer: &mut T) -> Answer {
    // SAFETY: the caller's promise; the reference proves that the memory is ours.
    unsafe { call(number::XEN_VERSION, [u64::from(command), (&raw mut *buffer) as u64, 0, 0, 0]) }
}

/// Writes `text` to the hypervisor's console.
pub fn console_write(text: &[u8]) -> Answer {
    let args = [u64::from(CONSOLEIO_WRITE), text.len() as u64, text.as_ptr() as u64, 0, 0];
    // SAFETY: the call only reads the text.
    unsafe { call(number::CONSOLE_IO, args) }
}

/// Reads keys waiting at the hypervisor's console into `buffer`; the answer is their count.
pub fn console_read(buffer: &mut [u8]) -> Answer {
    let args = [u64::from(CONSOLEIO_READ), buffer.len() as u64, buffer.as_mut_ptr() as u64, 0, 0];
    // SAFETY: the call writes at most the buffer's length into the buffer.
    unsafe { call(number::CONSOLE_IO, args) }
}

/// Lets other vCPUs run (`SCHEDOP_yield`).
pub fn yield_now() -> Answer {
    // SAFETY: the call has no argument.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]) }
}

/// Sleeps until one of `ports` is pending or system time reaches `timeout` nanoseconds; 0 means no limit
/// (`SCHEDOP_poll`).
pub fn poll(ports: &[u32], timeout: u64) -> Answer {
    let nr_ports = u32::try_from(ports.len()).unwrap_or(u32::MAX);
    let poll = SchedPoll { ports: ports.as_ptr() as u64, nr_ports, _pad: 0, timeout };
    // SAFETY: the call only reads the structure and the ports.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_POLL), (&raw const poll) as u64, 0, 0, 0]) }
}

/// Stops the domain for one of the ABI's `SHUTDOWN_*` reasons (`SCHEDOP_shutdown`). The answer is an error if there is
/// one at all.
pub fn shutdown(reason: u32) -> Answer {
    let shutdown = SchedShutdown { reason };
    // SAFETY: the call only reads the structure.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_SHUTDOWN), (&raw const shutdown) as u64, 0, 0, 0]) }
}

/// Asks whether vCPU `id` runs: 1 or 0, or [`Errno::ENOENT`] where there is no such vCPU (`VCPUOP_is_up`).
pub fn vcpu_is_up(id: u32) -> Answer {
    // SAFETY: the call has no memory argument.
    unsafe { call(number::VCPU_OP, [u64::from(VCPUOP_IS_UP), u64::from(id), 0, 0, 0]) }
}

/// Sets the virtual I/O privilege level, 0 to 3 (`PHYSDEVOP_set_iopl`).
pub fn set_iopl(iopl: u32) -> Answer {
    let argument = PhysdevSetIopl { iopl };
    // SAFETY: the call only reads the structure.
    unsafe { call(number::PHYSDEV_OP, [u64::from(PHYSDEVOP_SET_IOPL), (&raw const argument) as u64, 0, 0, 0]) }
}
