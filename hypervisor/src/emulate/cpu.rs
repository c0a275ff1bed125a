//! The seam to the machine: what emulated instructions need beyond the vCPU's own state.
//!
//! The rules decide and check; an implementor only carries out. Every value it gets was validated.

use crate::addr::Mfn;
use crate::domain::vcpu::Vcpu;
use crate::guest::{Fault, GuestCopy};

use super::cpuid::CpuidPolicy;
use super::instruction::Width;

/// The machine or the guest's rights do not allow it; the guest gets a general-protection fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// How far an instruction got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It is complete.
    Done,
    /// One step of several is done, and RIP stays.
    Again,
}

/// Which segment base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentBase {
    /// FS.
    Fs,
    /// The GS base in use.
    GsActive,
    /// The other one: the user's while the guest kernel runs (MSR `KERNEL_GS_BASE`).
    GsInactive,
}

/// The clock behind RDTSC, as leaf 3 of the hypervisor's CPUID leaves describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestTsc {
    /// Frequency in kHz.
    pub khz: u32,
    /// Nanoseconds between the TSC's zero and the guest's.
    pub offset: u64,
    /// Ticks to nanoseconds: the multiplier, in units of 2^-32.
    pub mul: u32,
    /// Ticks to nanoseconds: the shift to the left before multiplying; to the right if negative.
    pub shift: i8,
}

/// The CPU that runs the guest, and the rights of the guest's domain.
pub trait GuestCpu: GuestCopy {
    /// Does this selector name a 64-bit code segment? `lar` tells (bit 21). False for a selector that names nothing.
    fn is_64_bit_code(&mut self, selector: u16) -> bool;

    /// The real CR0. Its TS bit isn't used.
    fn cr0(&self) -> u64;

    /// Makes the next use of the FPU trap, or not (CR0.TS).
    fn set_task_switched(&mut self, on: bool);

    /// Makes `root` the top-level page table of kernel mode, as `MMUEXT_NEW_BASEPTR` does. Checking the tables may take
    /// more than one step.
    ///
    /// # Errors
    /// [`Refused`] if the frame can't be one.
    fn load_kernel_root(&mut self, vcpu: &mut Vcpu, root: Mfn) -> Result<Progress, Refused>;

    /// Loads the bits of CR4 that the guest owns ([`CpuidPolicy::cr4_mask`]) from its view of CR4.
    fn load_cr4(&mut self, cr4: u64);

    /// Loads XCR0.
    fn load_xcr0(&mut self, xcr0: u64);

    /// Loads DR0 to DR3, DR6 and DR7, at their numbers ([`hardware_registers`](super::debug::hardware_registers)).
    fn load_debug_registers(&mut self, registers: [u64; 8]);

    /// Reads a segment base from the CPU; a guest may have changed it without telling (FSGSBASE).
    fn segment_base(&self, which: SegmentBase) -> u64;

    /// Loads a segment base; `base` is canonical.
    fn set_segment_base(&mut self, which: SegmentBase, base: u64);

    /// Loads IA32_TSC_AUX.
    fn load_tsc_aux(&mut self, value: u32);

    /// The time-stamp counter as the guest is to see it.
    fn tsc(&self) -> u64;

    /// Writes a hypercall page.
    ///
    /// # Errors
    /// [`Refused`] if the frame is not the domain's to write.
    fn install_hypercall_page(&mut self, vcpu: &mut Vcpu, frame: Mfn) -> Result<Progress, Refused>;

    /// Writes back and empties the caches, if the domain has devices that don't snoop them. Else does nothing.
    fn write_back_caches(&mut self);

    /// Copies from the guest kernel's address space, whichever is loaded.
    ///
    /// # Errors
    /// Where it faults.
    fn read_kernel_bytes(&mut self, vcpu: &Vcpu, from: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// Reads a port. What nobody answers reads as all ones, as on a bus.
    fn port_read(&mut self, _port: u16, width: Width) -> u32 {
        width.mask()
    }

    /// Writes to a port. What nobody takes is dropped.
    fn port_write(&mut self, _port: u16, _width: Width, _value: u32) {}

    /// The CPU that the guest sees.
    fn cpuid_policy(&self) -> &CpuidPolicy;

    /// The clock that the guest sees.
    fn guest_tsc(&self) -> GuestTsc;
}
