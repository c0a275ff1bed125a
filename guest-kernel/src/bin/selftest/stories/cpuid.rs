//! `cpuid`, by the forced-emulation prefix and plain.

use crate::check::{Told, call, equal, holds, trapped};
use guest_kernel::{catch, probe};
use pv_abi::cpuid::*;
use pv_abi::hypercall::XEN_VERSION;
use pv_abi::version::XENVER_VERSION;

const NOTHING: probe::Cpuid = probe::Cpuid { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// The leaves by which a kernel knows what it runs on.
pub fn hypervisor_leaves() -> Told {
    let signature = probe::cpuid(XEN_CPUID_FIRST_LEAF, 0);
    let want = [XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX];
    equal("signature", [signature.ebx, signature.ecx, signature.edx], want)?;
    let last = signature.eax;
    holds("highest leaf", (xen_cpuid_leaf(2)..xen_cpuid_leaf(256)).contains(&last))?;

    let version = call(XEN_VERSION, [u64::from(XENVER_VERSION)]);
    equal("version", Ok(u64::from(probe::cpuid(xen_cpuid_leaf(1), 0).eax)), version)?;
    let pages = probe::cpuid(xen_cpuid_leaf(2), 0);
    equal("hypercall pages and their MSR", [pages.eax, pages.ebx], [1, 0x4000_0000])?;
    holds("preserve_ad", pages.ecx & XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD != 0)?;
    let width = probe::cpuid(xen_cpuid_leaf(5), 0).ebx & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK;
    holds("machine address width", (20..=52).contains(&width))?;

    // Kernels scan for other signatures in steps of 256.
    for leaf in [last + 1, 0x4000_0100, 0x4000_0200, 0x4000_ff00] {
        equal(&alloc::format!("leaf {leaf:#x}"), probe::cpuid(leaf, 0), NOTHING)?;
    }
    Ok(())
}

/// Features that a PV kernel would trip over if it saw them.
pub fn hidden_features() -> Told {
    let basic = probe::cpuid(1, 0);
    let edx = [("PSE", 3), ("PGE", 13), ("PSE36", 17), ("VME", 1)];
    for (name, bit) in edx {
        holds(&alloc::format!("{name} shown"), basic.edx & 1 << bit == 0)?;
    }
    let ecx = [("MONITOR", 3), ("VMX", 5), ("SMX", 6), ("PCID", 17), ("X2APIC", 21), ("TSC_DEADLINE", 24)];
    for (name, bit) in ecx {
        holds(&alloc::format!("{name} shown"), basic.ecx & 1 << bit == 0)?;
    }
    let structured = probe::cpuid(7, 0);
    for (name, bit) in [("SMEP", 7), ("INVPCID", 10), ("MPX", 14), ("SMAP", 20)] {
        holds(&alloc::format!("{name} shown"), structured.ebx & 1 << bit == 0)?;
    }
    for (name, bit) in [("UMIP", 2), ("PKU", 3), ("OSPKE", 4), ("CET_SS", 7), ("LA57", 16)] {
        holds(&alloc::format!("{name} shown"), structured.ecx & 1 << bit == 0)?;
    }
    let extended = probe::cpuid(0x8000_0001, 0);
    for (name, bit) in [("SVM", 2), ("EXTAPIC", 3)] {
        holds(&alloc::format!("{name} shown"), extended.ecx & 1 << bit == 0)?;
    }
    holds("PAGE1GB shown", extended.edx & 1 << 26 == 0)
}

/// Features that every 64-bit guest counts on.
pub fn shown_features() -> Told {
    let basic = probe::cpuid(1, 0);
    let edx = [("FPU", 0), ("TSC", 4), ("MSR", 5), ("PAE", 6), ("CX8", 8), ("APIC", 9), ("CMOV", 15), ("FXSR", 24)];
    for (name, bit) in edx.into_iter().chain([("SSE", 25), ("SSE2", 26)]) {
        holds(&alloc::format!("{name} hidden"), basic.edx & 1 << bit != 0)?;
    }
    holds("HYPERVISOR hidden", basic.ecx & 1 << 31 != 0)?;
    let extended = probe::cpuid(0x8000_0001, 0).edx;
    for (name, bit) in [("SYSCALL", 11), ("NX", 20), ("LM", 29)] {
        holds(&alloc::format!("{name} hidden"), extended & 1 << bit != 0)?;
    }
    Ok(())
}

/// Both forms describe the same processor.
pub fn native() -> Told {
    let vendor = |leaf: probe::Cpuid| [leaf.ebx, leaf.ecx, leaf.edx];
    equal("vendor", vendor(probe::cpuid(0, 0)), vendor(probe::native_cpuid(0, 0)))?;
    equal("family, model, stepping", probe::cpuid(1, 0).eax, probe::native_cpuid(1, 0).eax)?;
    for leaf in 0x8000_0002..=0x8000_0004 {
        equal("brand string", probe::cpuid(leaf, 0), probe::native_cpuid(leaf, 0))?;
    }
    Ok(())
}

/// The prefix works before `cpuid` and nothing else, and only when spelled right.
pub fn prefix() -> Told {
    // SAFETY: each sequence traps at its ud2.
    let wrong = unsafe {
        [
            catch!([".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; nop"]),
            catch!([".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e; rdtsc"] out("rdx") _,),
            catch!([".byte 0x0f, 0x0b, 0x78, 0x65, 0x6f; cpuid"]),
            catch!([".byte 0x0f, 0x0b, 0x58, 0x65, 0x6e; cpuid"]),
        ]
    };
    wrong.into_iter().try_for_each(|caught| trapped("misspelled prefix", caught, 6, 0))
}
