//! The boundary: one table from hypercall number to handler, arguments in, results out, restart.
//!
//! A handler gets the six argument words by value and reaches guest memory only through [`Platform`]'s copies; it never
//! sees registers. It answers with a value or an [`Errno`], or, for the few calls that do more than return, with a
//! [`Next`]. What a number means and which errors it gives is ABI: Xen's `xen.h` and the header named at each handler.
//!
//! **Restart**: a call that has done its budget of work answers [`Answer::Again`] with new arguments. [`dispatch`] then
//! sets them and moves RIP back onto the `syscall`, so that the guest itself makes the rest of the call after
//! interrupts had their turn. Nothing is kept in the hypervisor meanwhile. There is no other form of preemption.
#![forbid(unsafe_code)]

mod args;
mod batch;
mod callback;
mod console;
mod debug;
mod descriptors;
mod exchange;
mod flush;
mod memory;
mod misc;
mod mmu;
mod mmuext;
mod multicall;
mod reservation;
mod sched;
#[cfg(test)]
mod tests;
mod trap;
mod version;

use core::fmt;

use pv_abi::errno::Errno;
use pv_abi::hypercall as number;

use crate::addr::{CpuId, DomainId, GuestVa, Mfn};
use crate::bounce::{self, GuestSpace, Return};
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::domain::{Crash, End};
use crate::emulate::SegmentBase;
use crate::guest::{Fault, GuestRegisters};
use crate::mm::error::{Refused, Stop};
use crate::mm::m2p::MachineToPhys;
use crate::mm::operation::Operation;
use crate::mm::perform::{Effects, FramesLock, Unfinished, perform};

pub use mmuext::new_kernel_root;

/// What handlers need from the rest of the hypervisor.
pub trait Platform: GuestSpace + Effects<Tables: MachineToPhys> {
    /// Nanoseconds since the hypervisor started (`system_time`).
    fn now(&mut self) -> u64;

    /// What is known of the calling domain.
    fn domain(&self) -> DomainView<'_>;

    /// Is there a domain of this number?
    fn domain_exists(&self, id: DomainId) -> bool;

    /// Machine frames are below this number.
    fn max_mfn(&self) -> Mfn;

    /// Prints bytes on the hypervisor's console as the calling domain's.
    fn console_write(&mut self, bytes: &[u8]);

    /// Takes what was typed for the calling domain; returns how many bytes.
    fn console_read(&mut self, buf: &mut [u8]) -> usize;

    /// Loads a segment base; `base` is canonical.
    fn set_segment_base(&mut self, which: SegmentBase, base: u64);

    /// Loads a selector into the inactive GS; null if the CPU refuses it.
    fn load_inactive_gs(&mut self, vcpu: &mut Vcpu, selector: u16);

    /// Makes the next use of the FPU trap, or not (CR0.TS).
    fn set_task_switched(&mut self, on: bool);

    /// Loads DR0 to DR3, DR6 and DR7, at their numbers.
    fn load_debug_registers(&mut self, registers: [u64; 8]);

    /// The CPU that the vCPU is on.
    fn this_cpu(&self) -> CpuId;

    /// Drops this CPU's translation of one address.
    fn flush_address(&mut self, address: GuestVa);

    /// Loads the root of the vCPU's mode and drops all translations of this CPU.
    fn load_root(&mut self, vcpu: &Vcpu);

    /// Shows these pages in the guest's part of this CPU's GDT; each is held as a descriptor page while it is shown.
    fn show_gdt(&mut self, gdt: &Gdt);

    /// Makes this the CPU's LDT; its pages are held as descriptor pages while they are shown.
    fn show_ldt(&mut self, ldt: &Ldt);

    /// The owner of frames that the caller may map because it names it (`foreigndom` of `mmu.rs`).
    ///
    /// # Errors
    /// `ESRCH` if there is no such domain, `EPERM` if the caller has no privilege over it.
    fn page_owner(&self, id: DomainId) -> Result<DomainId, Errno>;

    /// Gives the domain `2^order` frames, zeroed and flushed, if there are any and it may have so many more. What the
    /// machine-to-phys table says of them is the caller's business.
    fn populate(&mut self, order: u8) -> Option<Mfn>;

    /// Gives a frame that was [reclaimed](crate::mm::operation::Operation::reclaim) to the allocator.
    fn free_reclaimed(&mut self, mfn: Mfn);

    /// Zeroes a frame that the caller holds as writable.
    fn clear_page(&mut self, mfn: Mfn);

    /// Copies a frame that the caller holds to one that it holds as writable.
    fn copy_page(&mut self, to: Mfn, from: Mfn);

    /// Notes in the log what the guest did wrong. May drop lines if there are many.
    fn complain(&mut self, what: fmt::Arguments<'_>);
}

/// What is known of a domain.
#[derive(Clone, Copy)]
pub struct DomainView<'a> {
    /// vCPUs it was created with.
    pub vcpus: u32,
    /// vCPUs that run or could run.
    pub online: u32,
    /// Most frames it may have allocated.
    pub max_pages: u64,
    /// Its UUID-like handle.
    pub handle: [u8; 16],
    /// The page it shares with the hypervisor.
    pub shared: &'a SharedInfo,
}

/// What becomes of the vCPU after a hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// It goes on.
    Resume(Return),
    /// It goes on when other vCPUs of its CPU had their turn.
    Yield,
    /// It waits for an upcall that is not masked.
    Block,
    /// It waits for one of some ports, or for a system time in nanoseconds.
    Poll {
        /// When to give up waiting, if ever.
        until: Option<u64>,
    },
    /// Its domain ends.
    End(End),
}

/// What a handler answers.
pub(crate) enum Answer {
    /// The call is done; this goes to RAX.
    Done(u64),
    /// A part is done: make the call again with these arguments.
    Again([u64; 6]),
    /// The call is done, RAX is 0, and then:
    Then(Next),
}

/// What a handler can fail with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The guest gets the ABI's error code.
    Code(Errno),
    /// The guest ends.
    Crash(Crash),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Code(errno)
    }
}

impl From<Fault> for Failure {
    fn from(_: Fault) -> Self {
        Failure::Code(Errno::EFAULT)
    }
}

impl From<Crash> for Failure {
    fn from(crash: Crash) -> Self {
        Failure::Crash(crash)
    }
}

pub(crate) type Reply = Result<Answer, Failure>;

/// Page-table entries that one call may look at, or comparable work, before it is restarted: some hundred thousand
/// instructions, which is how long interrupts may wait.
const BUDGET: u32 = 2048;

/// One call as its handler sees it.
pub(crate) struct Call<'a, P: Platform> {
    pub vcpu: &'a mut Vcpu,
    pub platform: &'a mut P,
    pub args: [u64; 6],
    /// What is left of [`BUDGET`].
    pub budget: u32,
}

impl<P: Platform> Call<'_, P> {
    /// Carries out a step of the memory rules, with its effects.
    pub fn memory<T>(
        &mut self,
        step: impl FnMut(&mut Operation<'_, P::Tables>, &dyn FramesLock) -> Result<T, Stop>,
    ) -> Result<T, Unfinished> {
        perform(self.platform, &mut self.vcpu.pending, &mut self.budget, step)
    }

    /// Notes in the log what was refused; the code that the guest gets.
    pub fn refuse(&mut self, what: &str, refused: Refused) -> Errno {
        self.platform.complain(format_args!("v{}: {what} refused: {refused}", self.vcpu.id.0));
        refused.errno()
    }
}

/// Length of the `syscall` instruction.
const SYSCALL_LENGTH: u64 = 2;

/// Carries out the hypercall in `regs`: RAX the number, RDI, RSI, RDX, R10, R8, R9 the arguments, RAX the result.
///
/// The caller has seen to it that the vCPU is in kernel mode.
pub fn dispatch<P: Platform>(vcpu: &mut Vcpu, regs: &mut GuestRegisters, platform: &mut P) -> Next {
    dispatch_within(vcpu, regs, platform, BUDGET)
}

/// [`dispatch`] with less budget, or more.
fn dispatch_within<P: Platform>(vcpu: &mut Vcpu, regs: &mut GuestRegisters, platform: &mut P, budget: u32) -> Next {
    if regs.rax == u64::from(number::IRET) {
        return match bounce::iret(vcpu, regs, platform) {
            Ok(how) => Next::Resume(how),
            Err(crash) => Next::End(End::Crash(crash)),
        };
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let number = regs.rax;
    match handle(&mut Call { vcpu, platform, args, budget }, number) {
        Ok(Answer::Done(value)) => {
            regs.rax = value;
            Next::Resume(Return::RcxR11Free)
        }
        Ok(Answer::Then(next)) => {
            regs.rax = 0;
            next
        }
        Ok(Answer::Again(args)) => {
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
            regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH);
            Next::Resume(Return::RcxR11Free)
        }
        Err(Failure::Code(errno)) => {
            regs.rax = errno.code().cast_unsigned();
            Next::Resume(Return::RcxR11Free)
        }
        Err(Failure::Crash(crash)) => Next::End(End::Crash(crash)),
    }
}

/// The table.
fn handle<P: Platform>(call: &mut Call<'_, P>, number: u64) -> Reply {
    let Ok(number) = u32::try_from(number) else { return Err(Errno::ENOSYS.into()) };
    match number {
        number::SET_TRAP_TABLE => trap::set_trap_table(call),
        number::MMU_UPDATE => mmu::mmu_update(call),
        number::SET_GDT => descriptors::set_gdt(call),
        number::STACK_SWITCH => misc::stack_switch(call),
        number::SET_CALLBACKS => callback::set_callbacks(call),
        number::FPU_TASKSWITCH => misc::fpu_taskswitch(call),
        number::SET_DEBUGREG => debug::set_debugreg(call),
        number::GET_DEBUGREG => debug::get_debugreg(call),
        number::UPDATE_DESCRIPTOR => descriptors::update_descriptor(call),
        number::MEMORY_OP => memory::memory_op(call),
        number::MULTICALL => multicall::multicall(call),
        number::UPDATE_VA_MAPPING => mmu::update_va_mapping(call),
        number::XEN_VERSION => version::xen_version(call),
        number::CONSOLE_IO => console::console_io(call),
        number::VM_ASSIST => misc::vm_assist(call),
        number::UPDATE_VA_MAPPING_OTHERDOMAIN => mmu::update_va_mapping_otherdomain(call),
        number::VCPU_OP => misc::vcpu_op(call),
        number::SET_SEGMENT_BASE => misc::set_segment_base(call),
        number::MMUEXT_OP => mmuext::mmuext_op(call),
        number::SCHED_OP => sched::sched_op(call),
        number::CALLBACK_OP => callback::callback_op(call),
        number::PHYSDEV_OP => misc::physdev_op(call),
        _ => Err(Errno::ENOSYS.into()),
    }
}
