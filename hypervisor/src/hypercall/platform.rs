//! What handlers need from the rest of the hypervisor: the seam between the calls' rules and the machine.

use core::fmt;

use alloc::sync::Arc;
use pv_abi::errno::Errno;

use super::target::{MachineFacts, NewDomain, Target};
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, Pfn, VcpuId};
use crate::bounce::GuestSpace;
use crate::device::Hardware;
use crate::domain::context::CpuContext;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::{Events, Kick};
use crate::grant::{GrantMemory, Grants};
use crate::mm::m2p::MachineToPhys;
use crate::mm::perform::Effects;
use crate::time::GuestRecord;

/// What handlers need from the rest of the hypervisor.
pub trait Platform: GuestSpace + Effects<Tables: MachineToPhys + GrantMemory> + Kick {
    /// A vCPU that was taken from among those that may not run.
    type Parked: ParkedVcpu;

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
pub trait ParkedVcpu {
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
