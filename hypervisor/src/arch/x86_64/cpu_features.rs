//! What the running CPU can do: what we require, what we use where it is there, and what it is known to leak.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use bitflags::bitflags;
use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

bitflags! {
    /// Features of the CPU, as found by CPUID (SDM volume 2, CPUID).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// No-execute pages. Required.
        const NX = 1 << 0;
        /// The `syscall` instruction in 64-bit mode. Required.
        const SYSCALL = 1 << 1;
        /// `fxsave` and `fxrstor`. Required: guests' FPU state.
        const FXSR = 1 << 2;
        /// SSE2, which 64-bit guests take for granted. Required.
        const SSE2 = 1 << 3;
        /// A local APIC. Required.
        const APIC = 1 << 4;
        /// The page attribute table. Required: it is part of the guest ABI.
        const PAT = 1 << 5;
        /// Global pages. Required.
        const PGE = 1 << 6;
        /// Time-stamp counter. Required.
        const TSC = 1 << 7;
        /// No execution of user pages in ring 0.
        const SMEP = 1 << 8;
        /// No access to user pages in ring 0 but between `stac` and `clac`.
        const SMAP = 1 << 9;
        /// No `sgdt`, `sidt`, `sldt`, `smsw`, `str` in ring 3.
        const UMIP = 1 << 10;
        /// `rdfsbase` and relatives.
        const FSGSBASE = 1 << 11;
        /// The `invpcid` instruction.
        const INVPCID = 1 << 12;
        /// Process-context identifiers.
        const PCID = 1 << 13;
        /// `xsave` and relatives.
        const XSAVE = 1 << 14;
        /// x2APIC mode.
        const X2APIC = 1 << 15;
        /// The local APIC's timer can wait for a TSC value.
        const TSC_DEADLINE = 1 << 16;
        /// The TSC runs at one rate in all power states.
        const INVARIANT_TSC = 1 << 17;
        /// 1 GiB pages.
        const HUGE_PAGES = 1 << 18;
        /// `rdtscp` and the TSC_AUX register.
        const RDTSCP = 1 << 19;
        /// We run under a hypervisor.
        const HYPERVISOR = 1 << 20;
        /// Machine checks are reported by exception 18.
        const MACHINE_CHECK = 1 << 21;
        /// The branch predictors can be made to forget (IBPB).
        const IBPB = 1 << 22;
        /// `verw` overwrites buffers that hold data of memory accesses.
        const MD_CLEAR = 1 << 23;
    }
}

/// Without these nothing runs.
const REQUIRED: Features = Features::NX
    .union(Features::SYSCALL)
    .union(Features::FXSR)
    .union(Features::SSE2)
    .union(Features::APIC)
    .union(Features::PAT)
    .union(Features::PGE)
    .union(Features::TSC);

/// A register of a CPUID leaf.
#[derive(Clone, Copy)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}

use Register::{Ebx, Ecx, Edx};

/// Where each feature is found: leaf, register (subleaf 0), bit. One of several places is enough.
const FOUND_AT: [(Features, u32, Register, u32); 25] = [
    (Features::NX, 0x8000_0001, Edx, 20),
    (Features::SYSCALL, 0x8000_0001, Edx, 11),
    (Features::FXSR, 1, Edx, 24),
    (Features::SSE2, 1, Edx, 26),
    (Features::APIC, 1, Edx, 9),
    (Features::PAT, 1, Edx, 16),
    (Features::PGE, 1, Edx, 13),
    (Features::TSC, 1, Edx, 4),
    (Features::SMEP, 7, Ebx, 7),
    (Features::SMAP, 7, Ebx, 20),
    (Features::UMIP, 7, Ecx, 2),
    (Features::FSGSBASE, 7, Ebx, 0),
    (Features::INVPCID, 7, Ebx, 10),
    (Features::PCID, 1, Ecx, 17),
    (Features::XSAVE, 1, Ecx, 26),
    (Features::X2APIC, 1, Ecx, 21),
    (Features::TSC_DEADLINE, 1, Ecx, 24),
    (Features::INVARIANT_TSC, 0x8000_0007, Edx, 8),
    (Features::HUGE_PAGES, 0x8000_0001, Edx, 26),
    (Features::RDTSCP, 0x8000_0001, Edx, 27),
    (Features::HYPERVISOR, 1, Ecx, 31),
    (Features::MACHINE_CHECK, 1, Edx, 7),
    // Intel's bit and AMD's.
    (Features::IBPB, 7, Edx, 26),
    (Features::IBPB, 0x8000_0008, Ebx, 12),
    (Features::MD_CLEAR, 7, Edx, 10),
];

/// IA32_PAT, and the value that the guest ABI promises: WB WT UC- UC WC WP UC UC.
const PAT_MSR: u32 = 0x277;
/// The guest-visible value of [`PAT_MSR`].
pub const PAT_VALUE: u64 = 0x0000_0501_0007_0406;
const ARCH_CAPABILITIES_MSR: u32 = 0x10a;

static FEATURES: Once<Features> = Once::new();

/// Features by their names, for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Names(pub Features);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, _)) in self.0.iter_names().enumerate() {
            write!(f, "{}{name}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Asks the boot CPU what it can do and remembers the answer. Fails with what is required and missing.
pub(super) fn init() -> Result<Features, Names> {
    let features = detect();
    FEATURES.call_once(|| features);
    let missing = REQUIRED - features;
    if missing.is_empty() { Ok(features) } else { Err(Names(missing)) }
}

/// What the boot CPU can do; empty before [`crate::arch::boot::early`].
#[inline]
pub fn get() -> Features {
    FEATURES.get().copied().unwrap_or(Features::empty())
}

/// What the running CPU can do.
fn detect() -> Features {
    let (basic, extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
    let mut features = Features::empty();
    for (feature, leaf, register, bit) in FOUND_AT {
        let highest = if leaf < 0x8000_0000 { basic } else { extended };
        if leaf > highest {
            continue;
        }
        let answer = __cpuid_count(leaf, 0);
        let word = match register {
            Ebx => answer.ebx,
            Ecx => answer.ecx,
            Edx => answer.edx,
        };
        if word & 1 << bit != 0 {
            features.insert(feature);
        }
    }
    features
}

/// The running CPU's APIC id, without asking the APIC: from leaf 0xb, or the eight bits of leaf 1.
pub(super) fn apic_id() -> u32 {
    let topology = if __cpuid(0).eax >= 0xb { __cpuid_count(0xb, 0) } else { __cpuid(1) };
    if __cpuid(0).eax >= 0xb && topology.ebx != 0 { topology.edx } else { __cpuid(1).ebx >> 24 }
}

/// Fails with what the running CPU lacks and the boot CPU has.
pub(super) fn check_same_as_boot_cpu() -> Result<(), Names> {
    let missing = get() - detect();
    if missing.is_empty() { Ok(()) } else { Err(Names(missing)) }
}

/// Sets the running CPU's control registers as the hypervisor wants them: write protection and no-execute in ring 0,
/// SMEP, SMAP and UMIP where present, the ABI's memory types; `syscall` is enabled.
///
/// CR4.OSXSAVE is set where the CPU has XSAVE; which register sets may be used is up to XCR0, see [`super::fpu`].
///
/// # Safety
/// The CPU runs on our own page tables, where no ring 0 code lies in user or no-execute pages, and has its own IDT.
pub unsafe fn enable() {
    let features = get();
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION | Cr4Flags::PAGE_GLOBAL | Cr4Flags::OSFXSR;
    cr4 |= Cr4Flags::OSXMMEXCPT_ENABLE;
    for (feature, flag) in [
        (Features::SMEP, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
        (Features::SMAP, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
        (Features::UMIP, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
        (Features::XSAVE, Cr4Flags::OSXSAVE),
        (Features::MACHINE_CHECK, Cr4Flags::MACHINE_CHECK_EXCEPTION),
    ] {
        cr4.set(flag, features.contains(feature));
    }
    let cr0 = Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::PAGING
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::MONITOR_COPROCESSOR;
    // SAFETY: each flag is only set where CPUID has it; the caller answers for the page tables. The memory types in
    // use so far (PAT entries 0 to 3) are the same in the new value as after reset.
    unsafe {
        Cr0::write(cr0);
        Cr4::write(cr4);
        Efer::update(|efer| *efer |= EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS);
        Msr::new(PAT_MSR).write(PAT_VALUE);
    }
}

/// What a guest can do to read memory it has no right to, by the CPU's known faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exposure {
    /// Ring 3 reads supervisor memory that is mapped (CVE-2017-5754).
    pub meltdown: bool,
    /// Ring 3 reads cached memory through page-table entries that are not present (CVE-2018-3620, CVE-2018-3646).
    pub l1tf: bool,
    /// Ring 3 reads what others' memory accesses have left in the CPU's buffers (MDS: CVE-2018-12126 and relatives).
    pub buffers: bool,
}

/// Bits of IA32_ARCH_CAPABILITIES: not exposed to Meltdown and L1TF; not to MDS; `verw` clears buffers that leak in other
/// ways (MMIO stale data, RFDS). SDM volume 4, table 2-2.
const RDCL_NO: u64 = 1 << 0;
const MDS_NO: u64 = 1 << 5;
const FB_CLEAR: u64 = 1 << 17;
const RFDS_CLEAR: u64 = 1 << 28;

/// What the running CPU is exposed to. A CPU of Intel's counts as exposed unless it says that it is not.
pub fn exposure() -> Exposure {
    if is_amd() {
        return Exposure { meltdown: false, l1tf: false, buffers: false };
    }
    let says = arch_capabilities();
    let meltdown = says & RDCL_NO == 0;
    Exposure { meltdown, l1tf: meltdown, buffers: says & MDS_NO == 0 || says & (FB_CLEAR | RFDS_CLEAR) != 0 }
}

/// IA32_ARCH_CAPABILITIES; 0 where there is none.
fn arch_capabilities() -> u64 {
    let has_msr = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & 1 << 29 != 0;
    // SAFETY: CPUID says that the register exists.
    if has_msr { unsafe { Msr::new(ARCH_CAPABILITIES_MSR).read() } } else { 0 }
}

/// A CPU of AMD's, or of their design.
fn is_amd() -> bool {
    let answer = __cpuid(0);
    let vendor = [answer.ebx, answer.edx, answer.ecx].map(u32::to_le_bytes);
    matches!(vendor.as_flattened(), b"AuthenticAMD" | b"HygonGenuine")
}

/// Whether `fxrstor` and `xrstor` leave in the CPU where the last x87 instruction was and what it accessed, unless an x87
/// exception is pending (XSA-52). AMD's CPUs do that but for those that say otherwise (AMD volume 3, CPUID 0x8000_0008).
pub(super) fn keeps_error_pointers() -> bool {
    const RSTR_FP_ERR_PTRS: u32 = 1 << 2;
    let restores = || __cpuid(0x8000_0000).eax >= 0x8000_0008 && __cpuid(0x8000_0008).ebx & RSTR_FP_ERR_PTRS != 0;
    is_amd() && !restores()
}

/// Logs what the CPU is, has and leaks.
pub(super) fn report() {
    let features = get();
    log::info!("cpu: {}", Brand::read());
    log::info!("cpu: uses {}", Names(features & OPTIONAL_AND_USED));
    let Exposure { meltdown, l1tf, buffers } = exposure();
    if meltdown || l1tf {
        log::info!("cpu: exposed to Meltdown and L1TF");
    } else {
        log::info!("cpu: not exposed to Meltdown or L1TF");
    }
    if buffers && !features.contains(Features::MD_CLEAR) {
        log::warn!(
            "cpu: may leak data of others from its buffers (MDS), and doesn't say that its microcode knows the remedy"
        );
    }
}

const OPTIONAL_AND_USED: Features = Features::SMEP
    .union(Features::SMAP)
    .union(Features::UMIP)
    .union(Features::X2APIC)
    .union(Features::TSC_DEADLINE)
    .union(Features::INVARIANT_TSC)
    .union(Features::HUGE_PAGES)
    .union(Features::IBPB)
    .union(Features::MD_CLEAR);

/// The CPU's name.
struct Brand([u8; 48]);

impl Brand {
    fn read() -> Brand {
        let mut bytes = [0; 48];
        if __cpuid(0x8000_0000).eax >= 0x8000_0004 {
            for (leaf, chunk) in (0x8000_0002..).zip(bytes.as_chunks_mut::<16>().0) {
                let answer = __cpuid(leaf);
                let words = [answer.eax, answer.ebx, answer.ecx, answer.edx].map(u32::to_le_bytes);
                chunk.copy_from_slice(words.as_flattened());
            }
        }
        Brand(bytes)
    }
}

impl fmt::Display for Brand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        f.write_str(core::str::from_utf8(&self.0[..end]).unwrap_or("unnamed").trim())
    }
}
