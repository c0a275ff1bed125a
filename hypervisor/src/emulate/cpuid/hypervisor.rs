//! The hypervisor's own leaves, from 0x40000000 (`arch-x86/cpuid.h`).

use pv_abi::cpuid::{
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_FIRST_LEAF, XEN_CPUID_MAX_NUM_LEAVES, XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
};

use super::features::{INVARIANT_TSC, RDTSCP};
use super::{CpuidPolicy, MAX_ADDRESS_WIDTH, Regs};
use crate::emulate::cpu::GuestTsc;
use crate::emulate::msr::HYPERCALL_PAGE;

/// The version of the ABI: Xen 4.17.
const VERSION: u32 = 4 << 16 | 17;
const HYPERCALL_PAGES: u32 = 1;

/// Leaf +3, subleaf 0, EAX: the TSC runs at one rate on all CPUs.
const TSC_IS_SAFE: u32 = 1 << 1;
/// Leaf +3, subleaf 0, EAX: RDTSCP exists.
const HAS_RDTSCP: u32 = 1 << 2;
/// Leaf +3, subleaf 0, EBX: native where that is sound. Not "never emulated": Linux would take this for a promise and
/// prefer its own use of the TSC to the hypervisor's clock.
const TSC_MODE_DEFAULT: u32 = 0;

/// A leaf; zeros if there is none. Kernels look for other hypervisors in steps of 0x100 above.
pub fn leaf(leaf: u32, subleaf: u32, policy: &CpuidPolicy, tsc: &GuestTsc) -> Regs {
    match (leaf.wrapping_sub(XEN_CPUID_FIRST_LEAF), subleaf) {
        (0, _) => [
            XEN_CPUID_FIRST_LEAF + XEN_CPUID_MAX_NUM_LEAVES,
            XEN_CPUID_SIGNATURE_EBX,
            XEN_CPUID_SIGNATURE_ECX,
            XEN_CPUID_SIGNATURE_EDX,
        ],
        (1, _) => [VERSION, 0, 0, 0],
        (2, _) => [HYPERCALL_PAGES, HYPERCALL_PAGE, XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, 0],
        (3, 0) => {
            let safe = if policy.features.has(INVARIANT_TSC) { TSC_IS_SAFE } else { 0 };
            let rdtscp = if policy.features.has(RDTSCP) { HAS_RDTSCP } else { 0 };
            [safe | rdtscp, TSC_MODE_DEFAULT, tsc.khz, 0]
        }
        (3, 1) => {
            let [offset_low, offset_high] = halves(tsc.offset);
            [offset_low, offset_high, tsc.mul, i32::from(tsc.shift).cast_unsigned()]
        }
        (3, 2) => [tsc.khz, 0, 0, 0],
        (5, 0) => [0, policy.physical_width.min(MAX_ADDRESS_WIDTH), 0, 0],
        // +4 is for guests with hardware virtualization.
        _ => [0; 4],
    }
}

fn halves(value: u64) -> [u32; 2] {
    [(value & 0xffff_ffff) as u32, (value >> 32) as u32]
}
