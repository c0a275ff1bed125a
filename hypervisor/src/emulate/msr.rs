//! Model-specific registers. A guest has few: what is not here raises a general-protection fault, which kernels
//! expect of registers that a CPU lacks, and CPUID offers nothing whose registers are missing.

use super::cpu::{GuestCpu, Progress, Refused, SegmentBase};
use super::execute::{Context, NOT_ALLOWED, low};
use crate::addr::is_canonical;
use crate::addr::{MachineAddr, VcpuId};
use crate::bounce::Exception;

/// Numbers, from the SDM, volume 4.
const APIC_BASE: u32 = 0x1b;
/// On Intel's CPUs. Kernels write 0 before they read the microcode's revision here.
const BIOS_SIGN_ID: u32 = 0x8b;
/// On Intel's CPUs.
const MISC_ENABLE: u32 = 0x1a0;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
/// The first of the hypervisor's own, as CPUID leaf 0x40000002 says: writing a frame's address installs a hypercall
/// page there.
pub(super) const HYPERCALL_PAGE: u32 = 0x4000_0000;

/// The local APIC where every PC has it, enabled.
const APIC_BASE_ENABLED: u64 = 0xfee0_0800;
/// This CPU starts the others.
const APIC_BASE_BSP: u64 = 1 << 8;
/// WB, WT, UC-, UC, WC, WP, UC, UC: the table that the ABI promises for all guests.
const PAT_VALUE: u64 = 0x0501_0007_0406;
/// The microcode's revision is not shown.
const NO_REVISION: u64 = 0;
/// `rep movs` and `rep stos` are fast (Linux does without them otherwise), branches are not traced (BTS), and neither are
/// accesses (PEBS).
const MISC_ENABLE_VALUE: u64 = 1 | 1 << 11 | 1 << 12;
/// SCE, LME, LMA, NXE: as the hypervisor has set them for all.
const EFER_VALUE: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

impl<C: GuestCpu> Context<'_, C> {
    /// RDMSR.
    pub fn rdmsr(&mut self) -> Result<(), Exception> {
        let value = self.read_msr(low(self.regs.rcx)).ok_or(NOT_ALLOWED)?;
        self.set_edx_eax(value);
        Ok(())
    }

    /// WRMSR.
    pub fn wrmsr(&mut self) -> Result<Progress, Exception> {
        self.write_msr(low(self.regs.rcx), self.edx_eax()).map_err(|Refused| NOT_ALLOWED)
    }

    fn read_msr(&self, msr: u32) -> Option<u64> {
        Some(match msr {
            FS_BASE => self.cpu.segment_base(SegmentBase::Fs),
            GS_BASE => self.cpu.segment_base(SegmentBase::GsActive),
            KERNEL_GS_BASE => self.cpu.segment_base(SegmentBase::GsInactive),
            TSC_AUX if self.cpu.cpuid_policy().has_tsc_aux() => self.vcpu.control.tsc_aux.into(),
            APIC_BASE if self.vcpu.id == VcpuId(0) => APIC_BASE_ENABLED | APIC_BASE_BSP,
            APIC_BASE => APIC_BASE_ENABLED,
            EFER => EFER_VALUE,
            PAT => PAT_VALUE,
            BIOS_SIGN_ID if self.cpu.cpuid_policy().is_intel() => NO_REVISION,
            MISC_ENABLE if self.cpu.cpuid_policy().is_intel() => MISC_ENABLE_VALUE,
            _ => return None,
        })
    }

    fn write_msr(&mut self, msr: u32, value: u64) -> Result<Progress, Refused> {
        match msr {
            FS_BASE => self.set_base(SegmentBase::Fs, value)?,
            GS_BASE => self.set_base(SegmentBase::GsActive, value)?,
            KERNEL_GS_BASE => self.set_base(SegmentBase::GsInactive, value)?,
            TSC_AUX if self.cpu.cpuid_policy().has_tsc_aux() => {
                let value = u32::try_from(value).map_err(|_| Refused)?;
                self.vcpu.control.tsc_aux = value;
                self.cpu.load_tsc_aux(value);
            }
            // Kernels write what they read.
            EFER if value == EFER_VALUE => {}
            PAT => {}
            BIOS_SIGN_ID if value == NO_REVISION && self.cpu.cpuid_policy().is_intel() => {}
            MISC_ENABLE if value == MISC_ENABLE_VALUE && self.cpu.cpuid_policy().is_intel() => {}
            HYPERCALL_PAGE => return self.install_hypercall_page(value),
            _ => return Err(Refused),
        }
        Ok(Progress::Done)
    }

    /// A base that is not canonical would fault in ring 0 (XSA-193).
    fn set_base(&mut self, which: SegmentBase, base: u64) -> Result<(), Refused> {
        if !is_canonical(base) {
            return Err(Refused);
        }
        self.cpu.set_segment_base(which, base);
        Ok(())
    }

    /// The lower bits are the page's index; there is one page.
    fn install_hypercall_page(&mut self, value: u64) -> Result<Progress, Refused> {
        let address = MachineAddr(value);
        if address.page_offset() != 0 {
            return Err(Refused);
        }
        self.cpu.install_hypercall_page(self.vcpu, address.frame())
    }
}
