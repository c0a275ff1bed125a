//! The hypercall boundary: one table maps numbers to handlers.
//!
//! Here is [`dispatch`], with the table. [`call`] is one call as its handler sees it, [`batch`] a list of requests in one call,
//! [`platform`] the machine as handlers see it, [`target`] another domain. The other files have the handlers, by subject.
//!
//! A handler sees its six arguments in [`Call::args`] and reaches guest memory only through [`Platform`]. It returns a value,
//! an [`Errno`], or one of two signals: [`Call::then`] says what the vCPU does next, other than go on; [`Call::again`] asks
//! for a restart. What a number means and which errors it gives is ABI: Xen's `xen.h` and the header named at each handler.
//!
//! **Restart**: a handler that has used up its budget stores the arguments for the rest of the work ([`Call::again`]).
//! [`dispatch`] then moves RIP back onto the `syscall` instruction, so the guest reissues the call after pending interrupts
//! have run. What is left to do is in the arguments, and in [`Vcpu::pending`] for a page table that is half done. There is
//! no other preemption.
#![forbid(unsafe_code)]

mod batch;
mod call;
mod callback;
mod console;
mod debug;
mod descriptors;
mod domctl;
mod event;
mod exchange;
mod flush;
mod grant;
mod memory;
mod misc;
mod mmu;
mod mmuext;
mod multicall;
mod physdev;
mod platform;
mod reservation;
mod sched;
mod sysctl;
mod target;
#[cfg(test)]
mod tests;
mod trap;
mod vcpu;
mod version;

use core::marker::PhantomData;

use pv_abi::errno::Errno;
use pv_abi::hypercall as number;

use crate::domain::vcpu::Vcpu;
use crate::guest::GuestRegisters;
use call::{BUDGET, Call, Otherwise, PAGE_COST, Reply};

pub use call::Next;
pub use mmuext::new_kernel_root;
pub use platform::{DomainView, ParkedVcpu, Platform};
pub use target::{DomainFacts, MachineFacts, NewDomain, Target};

/// Length of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// Is the hypercall in `regs` `iret`? It is the one that sets registers instead of an answer: [`bounce::iret`](crate::bounce::iret).
#[inline]
pub fn is_iret(regs: &GuestRegisters) -> bool {
    regs.rax == u64::from(number::IRET)
}

/// Carries out the hypercall in `regs`, which is not [`iret`](is_iret): RAX the number, RDI, RSI, RDX, R10, R8, R9 the
/// arguments, RAX the result.
///
/// True if the guest goes on, RCX and R11 free. Else something happens next, and stands in `next`.
///
/// The caller has seen to it that the vCPU is in kernel mode. Of the other registers, only RIP need be in `regs`.
#[inline]
pub fn dispatch<P: Platform>(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    platform: &mut P,
    next: &mut Option<Next>,
) -> bool {
    dispatch_within(vcpu, regs, platform, next, BUDGET)
}

/// [`dispatch`] with less budget, or more.
#[inline]
fn dispatch_within<P: Platform>(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    platform: &mut P,
    next: &mut Option<Next>,
    budget: u32,
) -> bool {
    let Some(handler) = handler(regs.rax) else {
        regs.rax = code(Errno::ENOSYS);
        return true;
    };
    let mut call = Call { vcpu, platform, args: regs.arguments(), budget, next };
    match handler(&mut call) {
        Ok(value) => regs.rax = value,
        Err(Otherwise(code)) if code < Otherwise::THEN.0 => regs.rax = code.wrapping_neg(),
        Err(Otherwise::AGAIN) => regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH),
        Err(_) => {
            regs.rax = 0;
            return false;
        }
    }
    true
}

/// Carries out one kind of hypercall.
type Handler<P> = fn(&mut Call<'_, P>) -> Reply;

/// The ABI's numbers are below this: the last eight are those of the architecture.
const NUMBERS: usize = number::ARCH_0 as usize + 8;

/// The table: handlers by number.
struct Table<P>(PhantomData<P>);

impl<P: Platform> Table<P> {
    const HANDLERS: [Handler<P>; NUMBERS] = {
        let mut handlers: [Handler<P>; NUMBERS] = [unknown; NUMBERS];
        handlers[number::SET_TRAP_TABLE as usize] = trap::set_trap_table;
        handlers[number::MMU_UPDATE as usize] = mmu::mmu_update;
        handlers[number::SET_GDT as usize] = descriptors::set_gdt;
        handlers[number::STACK_SWITCH as usize] = misc::stack_switch;
        handlers[number::SET_CALLBACKS as usize] = callback::set_callbacks;
        handlers[number::FPU_TASKSWITCH as usize] = misc::fpu_taskswitch;
        handlers[number::SET_DEBUGREG as usize] = debug::set_debugreg;
        handlers[number::GET_DEBUGREG as usize] = debug::get_debugreg;
        handlers[number::UPDATE_DESCRIPTOR as usize] = descriptors::update_descriptor;
        handlers[number::MEMORY_OP as usize] = memory::memory_op;
        handlers[number::MULTICALL as usize] = multicall::multicall;
        handlers[number::UPDATE_VA_MAPPING as usize] = mmu::update_va_mapping;
        handlers[number::XEN_VERSION as usize] = version::xen_version;
        handlers[number::CONSOLE_IO as usize] = console::console_io;
        handlers[number::UPDATE_VA_MAPPING_OTHERDOMAIN as usize] = mmu::update_va_mapping_otherdomain;
        handlers[number::VM_ASSIST as usize] = misc::vm_assist;
        handlers[number::GRANT_TABLE_OP as usize] = grant::grant_table_op;
        handlers[number::VCPU_OP as usize] = vcpu::vcpu_op;
        handlers[number::SET_TIMER_OP as usize] = vcpu::set_timer_op;
        handlers[number::SET_SEGMENT_BASE as usize] = misc::set_segment_base;
        handlers[number::MMUEXT_OP as usize] = mmuext::mmuext_op;
        handlers[number::SCHED_OP as usize] = sched::sched_op;
        handlers[number::EVENT_CHANNEL_OP as usize] = event::event_channel_op;
        handlers[number::EVENT_CHANNEL_OP_COMPAT as usize] = event::event_channel_op_compat;
        handlers[number::SYSCTL as usize] = sysctl::sysctl;
        handlers[number::DOMCTL as usize] = domctl::domctl;
        handlers[number::CALLBACK_OP as usize] = callback::callback_op;
        handlers[number::PHYSDEV_OP as usize] = physdev::physdev_op;
        handlers
    };
}

/// The handler of a call, whatever number the guest named; `None` beyond the table.
#[inline]
fn handler<P: Platform>(number: u64) -> Option<Handler<P>> {
    usize::try_from(number).ok().and_then(|number| Table::<P>::HANDLERS.get(number)).copied()
}

/// An error code as a call's result.
fn code(errno: Errno) -> u64 {
    errno.code().cast_unsigned()
}

fn unknown<P: Platform>(_: &mut Call<'_, P>) -> Reply {
    Err(Errno::ENOSYS.into())
}
