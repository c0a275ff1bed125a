//! The hypervisor's CPUID leaves, and the prefix that reaches them. Header: `arch-x86/cpuid.h`.
//!
//! | leaf | eax | ebx, ecx, edx |
//! |---|---|---|
//! | +0 | highest leaf | signature |
//! | +1 | version, `major << 16 \| minor` | 0 |
//! | +2 | number of hypercall pages | MSR that installs one, [`XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD`], 0 |
//! | +3 | time; three subleaves | |
//! | +4 | HVM only | |
//! | +5 | 0 | width of a machine address (see [`XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK`]), 0, 0 |

/// The first leaf.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// How many leaves there are beyond the first.
pub const XEN_CPUID_MAX_NUM_LEAVES: u32 = 5;
/// Leaf 0, ebx: "XenV".
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// Leaf 0, ecx: "MMXe".
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// Leaf 0, edx: "nVMM".
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// Leaf 2, ecx: `mmu_update` can preserve accessed and dirty bits.
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1 << 0;
/// Leaf 5, ebx: the bits that hold the width of a machine address. Above 44 a guest chooses version 2 grant tables.
pub const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;

/// `ud2` and "xen": put before `cpuid`, the bytes make the hypervisor emulate it. Header: `arch-x86/xen.h`.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

/// The number of hypervisor leaf `index`.
pub const fn xen_cpuid_leaf(index: u32) -> u32 {
    XEN_CPUID_FIRST_LEAF + index
}
