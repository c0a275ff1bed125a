//! Model-specific registers other than the segment bases.

use crate::check::{Told, equal, holds, trapped};
use guest_kernel::probe;

const APIC_BASE: u32 = 0x1b;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;

const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// The registers that PV kernels read at boot.
pub fn reads() -> Told {
    let apic = probe::rdmsr(APIC_BASE);
    let want = 0xfee0_0000 | 1 << 11 | 1 << 8;
    equal("APIC_BASE: address, enabled, boot CPU", apic.map(|value| value & 0xffff_f900), Ok(want))?;
    let efer = probe::rdmsr(EFER);
    let long_mode = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    equal("EFER", efer.map(|value| value & long_mode), Ok(long_mode))?;
    equal("PAT: WB WT UC- UC WC WP", probe::rdmsr(PAT), Ok(0x0501_0007_0406))
}

/// Writes that change nothing are accepted.
pub fn writes() -> Told {
    let efer = probe::rdmsr(EFER).unwrap_or(0);
    // SAFETY: the value is the one it has.
    equal("EFER as it is", unsafe { probe::wrmsr(EFER, efer) }, Ok(()))?;
    // SAFETY: whatever the hypervisor makes of the write, long mode stays on.
    let refused = unsafe { probe::wrmsr(EFER, efer & !EFER_NXE) };
    holds("EFER write neither ignored nor #GP", refused.is_ok() || refused.is_err_and(|caught| caught.vector == 13))?;
    equal("EFER unchanged", probe::rdmsr(EFER), Ok(efer))
}

/// Registers that don't exist, or aren't a guest's: #GP at the instruction.
pub fn unknown() -> Told {
    // Nothing; the hypervisor's syscall entry; its SYSENTER entry; a number with all bits set.
    for msr in [0xdead_beef, 0x4000_1000, 0xffff_ffff] {
        trapped(&alloc::format!("read {msr:#x}"), probe::rdmsr(msr).err(), 13, 0)?;
        // SAFETY: there is no such register.
        trapped(&alloc::format!("write {msr:#x}"), unsafe { probe::wrmsr(msr, 0) }.err(), 13, 0)?;
    }
    let frame = probe::last_frame().map(|frame| (frame.rcx & 0xffff_ffff, frame.rip));
    // SAFETY: reads two bytes of our own text.
    let opcode = frame.map(|(_, rip)| unsafe { (rip as *const [u8; 2]).read() });
    equal("the instruction at rip", opcode, Some([0x0f, 0x30]))?;
    equal("rcx kept", frame.map(|(rcx, _)| rcx), Some(0xffff_ffff))
}
