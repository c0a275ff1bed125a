//! Starting a vCPU other than the first.

use super::{LIMIT, stack_of};
use crate::memory::{self, Error};
use crate::paging::Rights;
use crate::{event, hypercall, probe, trap};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};
use pv_abi::trap::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use pv_abi::vcpu::{CpuUserRegs, VcpuContextFlags, VcpuGuestContext};
use zerocopy::FromZeros;

static HAS_STACK: [AtomicBool; LIMIT] = [const { AtomicBool::new(false) }; LIMIT];

/// Runs `entry` on vCPU `id`, which never ran before, with the kernel's page tables, trap table and event callback.
/// Upcalls are masked there at first.
///
/// # Errors
/// When there are no frames for its stack, or the hypervisor refuses.
pub fn start(id: u32, entry: fn(u32) -> !) -> Result<(), Error> {
    map_stack(id)?;
    // SAFETY: the context enters `begin` on a stack that nothing else uses.
    unsafe { hypercall::vcpu_initialise(id, &context(id, entry)) }.map_err(Error::Refused)?;
    hypercall::vcpu_up(id).map_err(Error::Refused)?;
    Ok(())
}

/// Maps a vCPU's stack, if it has none.
///
/// # Errors
/// When there are no frames for it.
pub fn map_stack(id: u32) -> Result<(), Error> {
    if HAS_STACK[id as usize].swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    memory::lock()?.map(stack_of(id), Rights::Write)
}

/// The state in which vCPU `id` enters `entry`.
pub fn context(id: u32, entry: fn(u32) -> !) -> Box<VcpuGuestContext> {
    let mut context = VcpuGuestContext::new_box_zeroed().expect("no heap left for a vCPU's context");
    context.flags = VcpuContextFlags::IN_KERNEL.bits();
    context.user_regs = CpuUserRegs {
        rip: begin as *const () as u64,
        rdi: entry as usize as u64,
        rsi: u64::from(id),
        // As behind a `call`.
        rsp: stack_of(id).end - 8,
        cs: FLAT_KERNEL_CS,
        ss: FLAT_KERNEL_SS,
        ..Default::default()
    };
    context.trap_ctxt.copy_from_slice(&trap::default_table()[..256]);
    context.ctrlreg[3] = probe::cr3().unwrap_or(0);
    context.event_callback_eip = event::callback();
    context
}

/// The first code of a vCPU. A zero frame pointer, from the context, ends backtraces.
#[allow(
    improper_ctypes_definitions,
    reason = "both sides are Rust; the convention is for the registers of the context"
)]
extern "sysv64" fn begin(entry: fn(u32) -> !, id: u64) -> ! {
    entry(u32::try_from(id).unwrap_or(0))
}
