//! The hypercall boundary: one table maps numbers to handlers.
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

mod args;
mod batch;
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
mod reservation;
mod sched;
mod sysctl;
mod target;
#[cfg(test)]
mod tests;
mod trap;
mod vcpu;
mod version;

use core::fmt;
use core::marker::PhantomData;

use alloc::sync::Arc;
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;

use crate::addr::{CpuId, DomainId, GuestVa, Mfn, Pfn, VcpuId};
use crate::bounce::{GuestSpace, Return};
use crate::device::Hardware;
use crate::domain::End;
use crate::domain::context::CpuContext;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::{Events, Kick};
use crate::grant::{GrantMemory, Grants};
use crate::guest::{Fault, GuestRegisters};
use crate::mm::error::{Refused, Stop};
use crate::mm::m2p::MachineToPhys;
use crate::mm::operation::Operation;
use crate::mm::perform::{Effects, FramesLock, Unfinished, perform};
use crate::time::GuestRecord;

pub use mmuext::new_kernel_root;
pub use target::{Facts, MachineFacts, NewDomain, Target};

/// What handlers need from the rest of the hypervisor.
pub trait Platform: GuestSpace + Effects<Tables: MachineToPhys + GrantMemory> + Kick {
    /// A vCPU that was taken from among those that may not run.
    type Parked: Parked;

    /// A domain that the control domain works on.
    type Target: Target;

    /// Nanoseconds since the hypervisor started (`system_time`).
    fn now(&mut self) -> u64;

    /// What is known of the calling domain.
    fn domain(&self) -> DomainView;

    /// The event channels of the calling domain, and its vCPUs as all CPUs see them.
    fn events(&self) -> &Arc<Events>;

    /// The clock record for a guest, as of now.
    fn clock_record(&self) -> GuestRecord;

    /// Takes a vCPU of the calling domain that may not run, to work on it. `None` if it may, or if it is taken already.
    fn take_parked(&mut self, id: VcpuId) -> Option<Self::Parked>;

    /// Gives it back.
    fn park(&mut self, parked: Self::Parked);

    /// Lets a vCPU run that is initialised, as far as `vcpu_op` is concerned.
    fn bring_up(&mut self, id: VcpuId);

    /// Stops a vCPU, until it is brought up. The calling one stops when the call is done.
    fn take_down(&mut self, id: VcpuId);

    /// Event flags in a frame that is held as writable for good; `offset` is aligned and in the page.
    fn vcpu_info(&self, mfn: Mfn, offset: usize) -> &'static VcpuInfo;

    /// The timers of the calling vCPU were set.
    fn timers_changed(&mut self, vcpu: &Vcpu);

    /// Any domain's event channels.
    fn events_of(&self, id: DomainId) -> Option<Arc<Events>>;

    /// The calling domain's grants.
    fn grants(&self) -> &Arc<Grants>;

    /// Any domain's grants; `None` as well if it is being taken apart.
    fn grants_of(&self, id: DomainId) -> Option<Arc<Grants>>;

    /// May what a guest asks for take memory of the hypervisor's own, which isn't counted as the guest's?
    fn has_memory_to_spare(&self) -> bool;

    /// A new frame of zeros that a domain may map, but not give back, as the shared-info page. The one reference that it
    /// comes with is the hypervisor's, and of type writable.
    fn share_frame(&mut self, target: &Self::Target) -> Option<Mfn>;

    /// Machine frames are below this number.
    fn max_mfn(&self) -> Mfn;

    /// The first frame of large page `number` of the machine-to-phys table; `None` where there is none.
    fn m2p_frames(&self, number: u64) -> Option<Mfn>;

    /// Prints bytes on the hypervisor's console as the calling domain's. False if it is to try again later: it has printed
    /// as much as it may.
    fn console_write(&mut self, bytes: &[u8]) -> bool;

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

    /// Drops all of this CPU's translations, as [`Effects::flush`] does for any.
    fn flush_here(&mut self);

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

    /// Gives the domain `2^order` frames, zeroed and flushed, if there are any and it may have so many more. The
    /// machine-to-physical table says `pfn` of the first of them and so on, from before another vCPU can use them.
    fn populate(&mut self, order: u8, pfn: Option<Pfn>) -> Option<Mfn>;

    /// Gives a frame that was [reclaimed](crate::mm::operation::Operation::reclaim) to the allocator.
    fn free_reclaimed(&mut self, mfn: Mfn);

    /// Zeroes a frame that the caller holds as writable.
    fn clear_page(&mut self, mfn: Mfn);

    /// Copies a frame that the caller holds to one that it holds as writable.
    fn copy_page(&mut self, to: Mfn, from: Mfn);

    /// Fills a frame that the caller holds as writable with hypercall stubs.
    fn fill_hypercall_page(&mut self, mfn: Mfn);

    /// Copies what the hypervisor logged to `into`, from `from` on if that is there yet, else from the first that is; how
    /// many bytes, and where to go on.
    fn read_log(&mut self, from: Option<u32>, into: &mut [u8]) -> (usize, u32);

    /// Forgets what was logged before this place.
    fn clear_log(&mut self, before: u32);

    /// The bits of CR4 that are a guest's to set.
    fn cr4_mask(&self) -> u64;

    /// Is the calling domain the control domain?
    fn is_privileged(&self) -> bool;

    /// The hardware, if the calling domain has it.
    fn hardware(&self) -> Option<&Arc<Hardware>>;

    /// What there is to tell of the machine.
    fn machine(&self) -> MachineFacts;

    /// The domain of this number, if there is one.
    fn target(&mut self, id: DomainId) -> Option<Self::Target>;

    /// The domain with the least number from this one up.
    fn target_from(&mut self, id: DomainId) -> Option<Self::Target>;

    /// What carries out the effects of the memory rules for a domain.
    fn memory_of(&mut self, target: &Self::Target) -> impl Effects<Tables = <Self as Effects>::Tables>;

    /// [`Platform::populate`], for a domain of which the caller has a vCPU in hand.
    fn populate_for(&mut self, target: &Self::Target, order: u8, pfn: Option<Pfn>) -> Option<Mfn>;

    /// Creates a domain without memory, its vCPUs down, paused once.
    ///
    /// # Errors
    /// `EEXIST`: there is a domain of this number. `ENOMEM`.
    fn create(&mut self, new: &NewDomain) -> Result<DomainId, Errno>;

    /// Ends a domain, which isn't the caller's. True when it owns nothing any more but what others refer to; until then it
    /// is to be asked again.
    fn destroy(&mut self, target: &Self::Target) -> bool;

    /// Pauses a domain, which isn't the caller's, once more. When this returns its vCPUs are on no CPU.
    ///
    /// # Errors
    /// `EOVERFLOW`: it is paused too often.
    fn pause(&mut self, target: &Self::Target) -> Result<(), Errno>;

    /// Ends one pause of a domain.
    ///
    /// # Errors
    /// `EINVAL`: it isn't paused.
    fn unpause(&mut self, target: &Self::Target) -> Result<(), Errno>;

    /// Makes CPUs that run vCPUs of a domain look at its share and its affinities, which have changed.
    fn reschedule(&mut self, target: &Self::Target);

    /// Takes a vCPU of a domain that isn't the caller's off its CPU or from wherever it is, and keeps the domain from
    /// running until it is given back. `None` if it is on its way somewhere, or taken already.
    fn take_vcpu(&mut self, target: &Self::Target, id: VcpuId) -> Option<Self::Parked>;

    /// Gives it back.
    fn give_vcpu(&mut self, target: &Self::Target, vcpu: Self::Parked);

    /// Notes in the log what the guest did wrong. May drop lines if there are many.
    fn complain(&mut self, what: fmt::Arguments<'_>);
}

/// A vCPU that may not run, in the hands of a hypercall.
pub trait Parked {
    /// The vCPU.
    fn vcpu(&mut self) -> &mut Vcpu;

    /// What the CPU is to hold for it when it runs. Bases are canonical.
    fn load(&mut self, cpu: &CpuContext);

    /// What the CPU is to hold for it when it runs, its FPU registers apart.
    fn save(&self) -> CpuContext;
}

/// What is known of a domain.
#[derive(Clone, Copy)]
pub struct DomainView {
    /// vCPUs it was created with.
    pub vcpus: u32,
    /// Most frames it may have allocated.
    pub max_pages: u64,
    /// Its UUID-like handle.
    pub handle: [u8; 16],
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

/// What becomes of a call that doesn't just return a value.
///
/// An error code of the ABI, or one of two numbers that aren't. One word, so that a [`Reply`] is returned in registers:
/// as an enum it takes a dozen instructions more, in every call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Otherwise(u64);

impl Otherwise {
    /// A part is done: the guest makes the call again, with [`Call::args`] as they are now.
    const AGAIN: Otherwise = Otherwise(u64::MAX);
    /// The call is done, RAX is 0, and [`Call::next`] says what follows.
    const THEN: Otherwise = Otherwise(u64::MAX - 1);
}

impl From<Errno> for Otherwise {
    fn from(errno: Errno) -> Self {
        Otherwise(errno.code().unsigned_abs())
    }
}

impl From<Fault> for Otherwise {
    fn from(_: Fault) -> Self {
        Errno::EFAULT.into()
    }
}

/// What a handler answers: what goes to RAX, or what else is to happen.
pub(crate) type Reply = Result<u64, Otherwise>;

/// Page-table entries that one call may look at, or comparable work, before it is restarted: some hundred thousand
/// instructions, which is how long interrupts may wait.
const BUDGET: u32 = 2048;

/// What it takes of the budget to zero or copy a page: as much as to look at some dozen page-table entries.
const PAGE_COST: u32 = 16;

/// One call as its handler sees it.
pub(crate) struct Call<'a, P: Platform> {
    pub vcpu: &'a mut Vcpu,
    pub platform: &'a mut P,
    /// The arguments: the guest's registers, or an entry of its multicall.
    pub args: &'a mut [u64; 6],
    /// What is left of [`BUDGET`].
    pub budget: u32,
    /// Where to say what follows, for [`Otherwise::THEN`].
    pub next: &'a mut Option<Next>,
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

/// Is the hypercall in `regs` `iret`? It is the one that sets registers instead of an answer: [`bounce::iret`].
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
