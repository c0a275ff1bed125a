//! What each instruction does: who may execute it, and the instructions with small effects.

use pv_abi::cpuid::xen_cpuid_leaf;

use super::control::CR4_TSD;
use super::cpu::{GuestCpu, GuestTsc, Progress};
use super::cpuid::GuestView;
use super::instruction::Operation;
use super::ring;
use crate::bounce::Exception;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::guest::GuestRegisters;

/// The fault that an instruction raises when the guest may not execute it.
pub(super) const NOT_ALLOWED: Exception = Exception::general_protection(0);
/// The fault that an instruction raises when the guest's CPU doesn't have it.
pub(super) const NO_SUCH_INSTRUCTION: Exception = Exception::INVALID_OPCODE;

/// All that an instruction may change.
pub(super) struct Context<'a, C> {
    pub vcpu: &'a mut Vcpu,
    pub regs: &'a mut GuestRegisters,
    pub cpu: &'a mut C,
}

impl<C: GuestCpu> Context<'_, C> {
    /// Executes an instruction that took a general-protection fault without error code.
    ///
    /// # Errors
    /// The exception it raises; nothing has changed then.
    pub fn execute(&mut self, operation: Operation) -> Result<Progress, Exception> {
        match operation {
            Operation::Cpuid => self.cpuid(),
            Operation::Rdtsc => self.rdtsc()?,
            Operation::Rdtscp => self.rdtscp()?,
            Operation::In { port, width } => self.input(port, width)?,
            Operation::Out { port, width } => self.output(port, width)?,
            Operation::Ins { width, address, repeat } => return self.input_string(width, address, repeat),
            Operation::Outs { width, address, repeat, segment } => {
                return self.output_string(width, address, repeat, segment);
            }
            // The guest's interrupt flag is the upcall mask, which these do not touch: Linux executes thousands of
            // them early on, before it patches them out, while its mask says what it means.
            Operation::Cli | Operation::Sti => self.require_io_privilege()?,
            _ => return self.execute_in_kernel(operation),
        }
        Ok(Progress::Done)
    }

    fn execute_in_kernel(&mut self, operation: Operation) -> Result<Progress, Exception> {
        if self.vcpu.mode != Mode::Kernel {
            return Err(NOT_ALLOWED);
        }
        match operation {
            Operation::Rdmsr => self.rdmsr()?,
            Operation::Wrmsr => return self.wrmsr(),
            Operation::Clts => self.set_task_switched(false),
            Operation::MovFromCr { control, to } => self.mov_from_cr(control, to)?,
            Operation::MovToCr { control, from } => return self.mov_to_cr(control, from),
            Operation::MovFromDr { debug, to } => self.mov_from_dr(debug, to)?,
            Operation::MovToDr { debug, from } => self.mov_to_dr(debug, from)?,
            // Never INVD: it would throw away other domains' data.
            Operation::Wbinvd | Operation::Invd => self.cpu.write_back_caches(),
            Operation::Xsetbv => self.xsetbv()?,
            // Hypercalls do what a guest wants of these (`sched_op(block)`, `set_gdt`, `mmuext_op`, `iret`); the others
            // belong to features that CPUID hides.
            Operation::Hlt
            | Operation::Lmsw
            | Operation::Invlpg
            | Operation::Lgdt
            | Operation::Lidt
            | Operation::Lldt
            | Operation::Ltr
            | Operation::Swapgs
            | Operation::Sysret
            | Operation::Iret
            | Operation::Rdpmc
            | Operation::Monitor
            | Operation::Mwait
            | Operation::Clac
            | Operation::Stac => return Err(NOT_ALLOWED),
            // These fault with a selector's error code, or not at all.
            Operation::Int(_) | Operation::Int3 => return Err(NOT_ALLOWED),
            Operation::Cpuid
            | Operation::Rdtsc
            | Operation::Rdtscp
            | Operation::In { .. }
            | Operation::Out { .. }
            | Operation::Ins { .. }
            | Operation::Outs { .. }
            | Operation::Cli
            | Operation::Sti => return Err(NOT_ALLOWED),
        }
        Ok(Progress::Done)
    }

    /// CPUID, for guest kernel and users.
    pub fn cpuid(&mut self) {
        let [leaf, subleaf] = [low(self.regs.rax), low(self.regs.rcx)];
        // Only one leaf shows the clock, and reading that costs more than all the rest.
        let shows_clock = leaf == xen_cpuid_leaf(3);
        let view = GuestView {
            vcpu: self.vcpu.id,
            kernel: self.vcpu.mode == Mode::Kernel,
            cr4: self.vcpu.control.cr4,
            xcr0: self.vcpu.control.xcr0,
            tsc: if shows_clock { self.cpu.guest_tsc() } else { GuestTsc::default() },
        };
        let [eax, ebx, ecx, edx] = self.cpu.cpuid_policy().leaf(leaf, subleaf, &view);
        self.regs.rax = eax.into();
        self.regs.rbx = ebx.into();
        self.regs.rcx = ecx.into();
        self.regs.rdx = edx.into();
    }

    /// RDTSC faults if the guest kernel set CR4.TSD against its users, or if the hypervisor makes all of them fault.
    fn rdtsc(&mut self) -> Result<(), Exception> {
        if self.vcpu.mode == Mode::User && self.vcpu.control.cr4 & CR4_TSD != 0 {
            return Err(NOT_ALLOWED);
        }
        self.set_edx_eax(self.cpu.tsc());
        Ok(())
    }

    fn rdtscp(&mut self) -> Result<(), Exception> {
        self.rdtsc()?;
        self.regs.rcx = self.vcpu.control.tsc_aux.into();
        Ok(())
    }

    /// May the guest use all ports, CLI and STI at its virtual I/O privilege level?
    pub fn has_io_privilege(&self) -> bool {
        ring(self.vcpu) <= self.vcpu.control.iopl
    }

    fn require_io_privilege(&self) -> Result<(), Exception> {
        if self.has_io_privilege() { Ok(()) } else { Err(NOT_ALLOWED) }
    }

    /// EDX:EAX.
    pub fn edx_eax(&self) -> u64 {
        u64::from(low(self.regs.rdx)) << 32 | u64::from(low(self.regs.rax))
    }

    /// Sets EDX:EAX; the upper halves of the registers become 0.
    pub fn set_edx_eax(&mut self, value: u64) {
        self.regs.rdx = value >> 32;
        self.regs.rax = low(value).into();
    }
}

/// The lower half.
pub(super) const fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
