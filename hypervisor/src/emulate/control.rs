//! Control registers, debug registers and XCR0 as instructions.

use super::cpu::{GuestCpu, Progress};
use super::debug::{self, DebugRefusal};
use super::execute::{Context, NO_SUCH_INSTRUCTION, NOT_ALLOWED, low};
use super::instruction::Gpr;
use super::xcr0;
use crate::addr::MachineAddr;
use crate::bounce::Exception;
use crate::domain::vcpu::Control;

/// CR0.TS: the next use of the FPU traps.
const CR0_TS: u64 = 1 << 3;

/// CR4.TSD: RDTSC traps in user mode (SDM volume 3, 2.5, as the following).
pub(super) const CR4_TSD: u64 = 1 << 2;
/// CR4.DE: DR4 and DR5 do not exist, and breakpoints on ports do.
pub(super) const CR4_DE: u64 = 1 << 3;
/// CR4.FSGSBASE: RDFSBASE and its kin exist.
pub(super) const CR4_FSGSBASE: u64 = 1 << 16;
/// CR4.OSXSAVE: XSAVE and XSETBV exist.
pub(super) const CR4_OSXSAVE: u64 = 1 << 18;

impl<C: GuestCpu> Context<'_, C> {
    /// MOV from a control register.
    pub fn mov_from_cr(&mut self, control: u8, to: Gpr) -> Result<(), Exception> {
        let value = match control {
            0 => self.cr0(),
            2 => self.vcpu.info.cr2(),
            3 => self.vcpu.roots.kernel.map_or(0, |root| root.base().0),
            4 => self.vcpu.control.cr4,
            _ => return Err(NOT_ALLOWED),
        };
        *to.of(self.regs) = value;
        Ok(())
    }

    /// MOV to a control register.
    pub fn mov_to_cr(&mut self, control: u8, from: Gpr) -> Result<Progress, Exception> {
        let value = from.read(self.regs);
        match control {
            0 => self.set_cr0(value)?,
            2 => self.vcpu.info.set_cr2(value),
            3 => return self.set_cr3(value),
            4 => self.set_cr4(value),
            _ => return Err(NOT_ALLOWED),
        }
        Ok(Progress::Done)
    }

    /// The real one, which SMSW shows to ring 3 anyway, but for the guest's own TS.
    fn cr0(&self) -> u64 {
        let ts = if self.vcpu.control.task_switched { CR0_TS } else { 0 };
        self.cpu.cr0() & !CR0_TS | ts
    }

    /// Only TS is the guest's to change.
    fn set_cr0(&mut self, value: u64) -> Result<(), Exception> {
        if (value ^ self.cr0()) & !CR0_TS != 0 {
            return Err(NOT_ALLOWED);
        }
        self.set_task_switched(value & CR0_TS != 0);
        Ok(())
    }

    /// Sets the guest's TS, and the real one with it.
    pub fn set_task_switched(&mut self, on: bool) {
        self.vcpu.control.task_switched = on;
        self.cpu.set_task_switched(on);
    }

    fn set_cr3(&mut self, value: u64) -> Result<Progress, Exception> {
        let root = MachineAddr(value).frame();
        self.cpu.load_kernel_root(self.vcpu, root).map_err(|_| NOT_ALLOWED)
    }

    /// Takes the bits that are the guest's and ignores the others: kernels set every bit they know of.
    fn set_cr4(&mut self, value: u64) {
        let cr4 = Control::NEW.cr4 | value & self.cpu.cpuid_policy().cr4_mask();
        self.vcpu.control.cr4 = cr4;
        self.cpu.load_cr4(cr4);
    }

    /// MOV from a debug register.
    pub fn mov_from_dr(&mut self, number: u8, to: Gpr) -> Result<(), Exception> {
        *to.of(self.regs) = debug::read(&self.vcpu.control, number).map_err(raised)?;
        Ok(())
    }

    /// MOV to a debug register.
    pub fn mov_to_dr(&mut self, number: u8, from: Gpr) -> Result<(), Exception> {
        debug::write(&mut self.vcpu.control, number, from.read(self.regs)).map_err(raised)?;
        self.cpu.load_debug_registers(debug::hardware_registers(&self.vcpu.control));
        Ok(())
    }

    /// XSETBV. The value that reaches the CPU was checked against what CPUID offers, or XSETBV would fault in ring 0.
    pub fn xsetbv(&mut self) -> Result<(), Exception> {
        if self.vcpu.control.cr4 & CR4_OSXSAVE == 0 {
            return Err(NO_SUCH_INSTRUCTION);
        }
        let value = self.edx_eax();
        if low(self.regs.rcx) != 0 || !xcr0::is_valid(value, self.cpu.cpuid_policy().xcr0_mask()) {
            return Err(NOT_ALLOWED);
        }
        self.vcpu.control.xcr0 = value;
        self.cpu.load_xcr0(value);
        Ok(())
    }
}

fn raised(refusal: DebugRefusal) -> Exception {
    match refusal {
        DebugRefusal::NoSuchRegister => NO_SUCH_INSTRUCTION,
        DebugRefusal::NotAGuestAddress
        | DebugRefusal::HighBits
        | DebugRefusal::GeneralDetect
        | DebugRefusal::PortBreakpoint => NOT_ALLOWED,
    }
}
