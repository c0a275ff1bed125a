//! `vcpu_op`: vCPUs, their timers, and the records they share with the hypervisor. Header: `vcpu.h`.
//!
//! A number that no vCPU has is `ENOENT` for all of them.

use super::{Answer, call};
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::vcpu::*;

/// Any operation; `argument` is the address of the structure that the command names.
///
/// # Safety
/// Memory that the command writes, now or later, is the caller's to give.
pub unsafe fn vcpu_op(command: u32, id: u32, argument: u64) -> Answer {
    // SAFETY: memory that the command writes, now or later, is the caller's to give, as it promises.
    unsafe { call(number::VCPU_OP, [u64::from(command), u64::from(id), argument, 0, 0]) }
}

/// An operation that only reads its argument.
fn read_only<T>(command: u32, id: u32, argument: &T) -> Answer {
    // SAFETY: of the commands below, none writes memory.
    unsafe { vcpu_op(command, id, (&raw const *argument) as u64) }
}

/// An operation without argument.
fn plain(command: u32, id: u32) -> Answer {
    // SAFETY: of the commands below, none writes memory.
    unsafe { vcpu_op(command, id, 0) }
}

/// Gives a vCPU that never ran its first state (`VCPUOP_initialise`).
///
/// # Errors
/// `EEXIST` if it has one; `EINVAL` for an address, table or descriptor that no guest may have.
///
/// # Safety
/// The state leads to code that can run with it.
pub unsafe fn vcpu_initialise(id: u32, context: &VcpuGuestContext) -> Answer {
    read_only(VCPUOP_INITIALISE, id, context)
}

/// Lets a vCPU run (`VCPUOP_up`).
pub fn vcpu_up(id: u32) -> Answer {
    plain(VCPUOP_UP, id)
}

/// Stops a vCPU where it is; [`vcpu_up`] lets it go on there (`VCPUOP_down`). The last one's end is the domain's.
pub fn vcpu_down(id: u32) -> Answer {
    plain(VCPUOP_DOWN, id)
}

/// Asks whether vCPU `id` runs: 1 or 0, or [`Errno::ENOENT`] where there is no such vCPU (`VCPUOP_is_up`).
pub fn vcpu_is_up(id: u32) -> Answer {
    plain(VCPUOP_IS_UP, id)
}

/// Sends a non-maskable interrupt (`VCPUOP_send_nmi`). Without a handler it is the domain's end.
pub fn send_nmi(id: u32) -> Answer {
    plain(VCPUOP_SEND_NMI, id)
}

/// How long a vCPU has been in each run state (`VCPUOP_get_runstate_info`).
pub fn runstate(id: u32) -> Result<VcpuRunstateInfo, Errno> {
    let mut info = VcpuRunstateInfo::default();
    // SAFETY: the call writes the structure.
    unsafe { vcpu_op(VCPUOP_GET_RUNSTATE_INFO, id, (&raw mut info) as u64) }.map(|_| info)
}

/// Starts this vCPU's periodic timer, of at least a millisecond (`VCPUOP_set_periodic_timer`).
pub fn set_periodic_timer(id: u32, period_ns: u64) -> Answer {
    read_only(VCPUOP_SET_PERIODIC_TIMER, id, &VcpuSetPeriodicTimer { period_ns })
}

/// Stops it (`VCPUOP_stop_periodic_timer`).
pub fn stop_periodic_timer(id: u32) -> Answer {
    plain(VCPUOP_STOP_PERIODIC_TIMER, id)
}

/// Starts this vCPU's one-shot timer for a system time in nanoseconds (`VCPUOP_set_singleshot_timer`).
///
/// # Errors
/// `EINVAL` for another vCPU. `ETIME` for a time that has passed, with [`SingleshotFlags::FUTURE`].
pub fn set_singleshot_timer(id: u32, timeout_abs_ns: u64, flags: SingleshotFlags) -> Answer {
    let argument = VcpuSetSingleshotTimer { timeout_abs_ns, flags: flags.bits(), _pad: 0 };
    read_only(VCPUOP_SET_SINGLESHOT_TIMER, id, &argument)
}

/// Stops it (`VCPUOP_stop_singleshot_timer`).
pub fn stop_singleshot_timer(id: u32) -> Answer {
    plain(VCPUOP_STOP_SINGLESHOT_TIMER, id)
}

/// Moves a vCPU's `vcpu_info` to a place of the domain's, for good (`VCPUOP_register_vcpu_info`).
///
/// # Safety
/// The hypervisor writes there from now on.
pub unsafe fn register_vcpu_info(id: u32, mfn: u64, offset: u32) -> Answer {
    read_only(VCPUOP_REGISTER_VCPU_INFO, id, &VcpuRegisterVcpuInfo { mfn, offset, _rsvd: 0 })
}

/// Names the address of a [`VcpuRunstateInfo`] that the hypervisor keeps up to date
/// (`VCPUOP_register_runstate_memory_area`).
///
/// # Safety
/// The hypervisor writes there from now on, whatever is mapped there.
pub unsafe fn register_runstate_area(id: u32, addr: u64) -> Answer {
    read_only(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, id, &VcpuRegisterMemoryArea { addr })
}

/// Names the address of a second time record, which user mode may see (`VCPUOP_register_vcpu_time_memory_area`).
///
/// # Safety
/// As for [`register_runstate_area`].
pub unsafe fn register_time_area(id: u32, addr: u64) -> Answer {
    read_only(VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, id, &VcpuRegisterMemoryArea { addr })
}
