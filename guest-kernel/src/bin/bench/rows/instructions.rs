//! Instructions that the hypervisor carries out.

use crate::meter::{Effort, Measured};
use core::arch::asm;
use core::hint::black_box;
use guest_kernel::probe;
use pv_abi::errno::Errno;

/// `KERNEL_GS_BASE`, which Linux reads at every switch of tasks.
const INACTIVE_GS_BASE: u32 = 0xc000_0102;

/// `cpuid` by the forced-emulation prefix.
pub fn cpuid_forced(effort: Effort) -> Measured {
    effort.count(1, || {
        black_box(probe::cpuid(1, 0));
        0
    })
}

/// `rdmsr`.
pub fn rdmsr(effort: Effort) -> Measured {
    probe::rdmsr(INACTIVE_GS_BASE).map_err(|_| Errno::EPERM)?;
    effort.count(1, || {
        // SAFETY: the register could just be read, and reading has no effect.
        unsafe { asm!("rdmsr", in("ecx") INACTIVE_GS_BASE, out("eax") _, out("edx") _) };
        0
    })
}
