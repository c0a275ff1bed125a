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
//! | `event` | `event_channel_op` |
//! | `physdev` | `physdev_op` |
//! | `grant` | `grant_table_op` |
//! | `sched` | `sched_op`, `set_timer_op` |
//! | `vcpu` | `vcpu_op` |
//! | `multicall` | lists of calls |

mod descriptors;
mod entry;
mod event;
mod grant;
mod memory;
mod mmu;
mod multicall;
mod physdev;
mod sched;
mod vcpu;

pub use descriptors::{set_gdt, update_descriptor};
pub use entry::{
    fpu_taskswitch, get_debugreg, iret, register_callback, set_debugreg, set_segment_base, set_trap_table,
    stack_switch, unregister_callback, vm_assist,
};
pub use event::{
    alloc_unbound, bind_interdomain, bind_ipi, bind_pirq, bind_vcpu, bind_virq, close_port, event_channel_op,
    expand_array, init_control, port_status, reset_ports, send, set_priority, unmask_port,
};
pub use grant::{
    grant_copy, grant_map, grant_query_size, grant_set_version, grant_setup_table, grant_table_op, grant_unmap,
};
pub use memory::{decrease_reservation, exchange, increase_reservation, memory_op, populate_physmap};
pub use mmu::{Flush, Owner, Vcpus, mmu_update, mmuext, mmuext_op, update_va_mapping, update_va_mapping_otherdomain};
pub use multicall::{entry as multicall_entry, multicall, result as multicall_result};
pub use physdev::{add_pci_device, end_interrupt, map_gsi, map_message, physdev_op, set_iopl, setup_gsi, unmap_pirq};
pub use sched::{block, poll, set_timer, shutdown, yield_now};
pub use vcpu::{
    register_runstate_area, register_time_area, register_vcpu_info, runstate, send_nmi, set_periodic_timer,
    set_singleshot_timer, stop_periodic_timer, stop_singleshot_timer, vcpu_down, vcpu_initialise, vcpu_is_up, vcpu_op,
    vcpu_up,
};

use core::arch::asm;
use pv_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::version::XENVER_VERSION;

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
    // SAFETY: the command fills no more than a `T`, as the caller promises; the reference proves that the memory is ours.
    unsafe { call(number::XEN_VERSION, [u64::from(command), (&raw mut *buffer) as u64, 0, 0, 0]) }
}

/// A call that does nothing: on the way back the hypervisor delivers an upcall that has become due.
pub fn deliver_upcalls() {
    // SAFETY: the call has no memory argument.
    let _ = unsafe { call(number::XEN_VERSION, [u64::from(XENVER_VERSION), 0, 0, 0, 0]) };
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
