use super::features::{self, Feature};
use super::*;
use crate::emulate::xcr0;
use proptest::prelude::*;

/// A CPU with every feature of today, and AVX-512 with the usual sizes.
pub(in crate::emulate) fn modern_host(leaf: u32, subleaf: u32) -> Regs {
    const GENUINE_INTEL: [u32; 3] = [0x756e_6547, 0x6c65_746e, 0x4965_6e69];
    match (leaf, subleaf) {
        (0, _) => [0x20, GENUINE_INTEL[0], GENUINE_INTEL[1], GENUINE_INTEL[2]],
        (1, _) => [0x000c_06f2, 0x0740_0800, u32::MAX, u32::MAX],
        (4, 0..4) => [0xfc1f_c120 | (subleaf + 1), 0x02c0_003f, 0x3f, 0],
        (7, 0) => [2, u32::MAX, u32::MAX, u32::MAX],
        (7, 1) | (7, 2) => [u32::MAX; 4],
        (0xb, _) => [7, 0x40, 0x201, 0x33],
        (0xd, 0) => [0x6_02e7, 0xa88, 0x2b00, 0],
        (0xd, 1) => [0x1f, 0x2000, 0x1_1900, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0xd, 5) => [64, 1088, 0, 0],
        (0xd, 6) => [512, 1152, 0, 0],
        (0xd, 7) => [1024, 1664, 0, 0],
        (0xd, 9) => [8, 2688, 0, 0],
        (0xd, 17) => [64, 2752, 2, 0],
        (0xd, 18) => [8192, 2816, 6, 0],
        (0x8000_0000, _) => [0x8000_0021, 0, 0, 0],
        (0x8000_0001, _) => [0, u32::MAX, u32::MAX, u32::MAX],
        (0x8000_0002..=0x8000_0006, _) => [leaf; 4],
        (0x8000_0007, _) => [u32::MAX; 4],
        (0x8000_0008, _) => [0x0034_3934, u32::MAX, u32::MAX, u32::MAX],
        _ => [0; 4],
    }
}

/// A CPU of 2006: no XSAVE, no leaf 7, no RDTSCP.
pub(in crate::emulate) fn old_host(leaf: u32, _: u32) -> Regs {
    match leaf {
        0 => [1, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        1 => [0x0f4a, 0x800, 0x2001, 0x178b_fbff],
        0x8000_0000 => [0x8000_0008, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
        0x8000_0001 => [0x0f4a, 0, 1, 0x2010_0800],
        0x8000_0002..=0x8000_0007 => [0; 4],
        0x8000_0008 => [0x3028, 0, 0, 0],
        _ => panic!("asked for leaf {leaf:#x}, which this CPU doesn't have"),
    }
}

fn view() -> GuestView {
    GuestView { vcpu: VcpuId(3), kernel: true, cr4: 0x660, xcr0: 3, tsc: GuestTsc::default() }
}

fn modern(leaf: u32, subleaf: u32) -> Regs {
    CpuidPolicy::new(modern_host).leaf(leaf, subleaf, &view())
}

/// Register numbers in a leaf.
const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Bits that must never show, as (leaf, subleaf, register, bits), by the guest contract.
const HIDDEN: [(u32, u32, usize, u32); 12] = [
    // VME PSE MCE MTRR PGE MCA PSE36 DS ACPI HTT TM1 PBE.
    (1, 0, EDX, 1 << 1 | 1 << 3 | 1 << 7 | 0b111 << 12 | 1 << 17 | 0b11 << 21 | 1 << 28 | 1 << 29 | 1 << 31),
    // DTES64 MONITOR DSCPL VMX SMX EIST TM2 PDCM PCID DCA X2APIC TSC_DEADLINE.
    (1, 0, ECX, 0b1_1111 << 2 | 0b11 << 7 | 1 << 15 | 0b11 << 17 | 1 << 21 | 1 << 24),
    // TSC_ADJUST SGX HLE SMEP INVPCID RTM PQM MPX PQE SMAP PT.
    (7, 0, EBX, 0b11 << 1 | 1 << 4 | 1 << 7 | 0b111 << 10 | 0b11 << 14 | 1 << 20 | 1 << 25),
    // UMIP PKU OSPKE WAITPKG CET_SS LA57 SGX_LC ENQCMD PKS.
    (7, 0, ECX, 0b111 << 2 | 1 << 5 | 1 << 7 | 1 << 16 | 1 << 29 | 0b11 << 30),
    // CET_IBT AMX SPEC_CTRL STIBP L1D_FLUSH ARCH_CAPS CORE_CAPS SSBD.
    (7, 0, EDX, 1 << 20 | 1 << 22 | 0b11 << 24 | 0b11_1111 << 26),
    // LASS FRED LKGS WRMSRNS HRESET.
    (7, 1, EAX, 1 << 6 | 0b111 << 17 | 1 << 22),
    // XSAVES XFD.
    (0xd, 1, EAX, 0b11 << 3),
    // PAGE1GB FFXSR.
    (0x8000_0001, 0, EDX, 0b11 << 25),
    // CMP_LEGACY SVM EXTAPIC CR8_LEGACY OSVW IBS SKINIT WDT LWP NODEID TOPOEXT and the performance counters, MONITORX.
    (0x8000_0001, 0, ECX, 0b1111 << 1 | 0b11 << 9 | 0b11 << 12 | 1 << 15 | 1 << 19 | 0b111_1111 << 22 | 1 << 29),
    // All but the invariant TSC.
    (0x8000_0007, 0, EDX, !(1 << 8)),
    // WBNOINVD IBPB IBRS STIBP SSBD and how they behave.
    (0x8000_0008, 0, EBX, 1 << 9 | 0b111_1111_1111 << 12 | 0b11 << 24 | 1 << 28),
    // Numbers of threads and cores.
    (0x8000_0008, 0, ECX, u32::MAX),
];

#[test]
fn what_is_shown_of_a_modern_cpu() {
    assert_eq!(modern(0, 0)[EAX], 0xd);
    assert_eq!(modern(0, 0)[EBX..], modern_host(0, 0)[EBX..]);
    // FPU DE TSC MSR PAE CX8 APIC SEP CMOV PAT CLFLUSH MMX FXSR SSE SSE2 SS.
    assert_eq!(modern(1, 0)[EDX], 0x0f89_8b75);
    assert_eq!(modern(1, 0)[ECX], 0xfed8_3203 | 1 << 27);
    assert_eq!(modern(1, 0)[EBX], 0x0301_0800);
    assert_eq!(modern(7, 0)[EAX], 1);
    // FSGSBASE BMI1 AVX2 BMI2 ERMS AVX512F ADX SHA CLWB, which the contract names.
    for bit in [0, 3, 5, 8, 9, 16, 19, 24, 29] {
        assert_ne!(modern(7, 0)[EBX] >> bit & 1, 0, "bit {bit}");
    }
    assert_eq!(modern(0x8000_0001, 0)[EDX], 0xe850_0800_u32 & !(1 << 26));
    assert_eq!(modern(0x8000_0008, 0)[EAX], 0x3034);
    assert_eq!(modern(0x8000_0002, 0), [0x8000_0002; 4]);
}

#[test]
fn leaves_that_do_not_exist_are_zeros() {
    let absent = [3, 5, 6, 8, 9, 0xa, 0xc, 0xe, 0x14, 0x1f, 0x21, 0x8000_0009, 0x8000_000a, 0x8000_001e, u32::MAX];
    for leaf in absent.into_iter().chain((0x4000_0100..=0x4000_ff00).step_by(0x100)) {
        assert_eq!(modern(leaf, 0), [0; 4], "leaf {leaf:#x}");
    }
    for (leaf, subleaf) in
        [(7, 2), (7, u32::MAX), (4, 4), (4, u32::MAX), (0xd, 3), (0xd, 9), (0xd, 18), (0xd, u32::MAX)]
    {
        assert_eq!(modern(leaf, subleaf), [0; 4], "leaf {leaf:#x}.{subleaf}");
    }
}

#[test]
fn hypervisor_leaves() {
    let tsc = GuestTsc { khz: 2_500_000, offset: 0x1_0000_0002, mul: 0xcccc_cccc, shift: -1 };
    let policy = CpuidPolicy::new(modern_host);
    let leaf = |leaf, subleaf| policy.leaf(leaf, subleaf, &GuestView { tsc, ..view() });
    assert_eq!(leaf(0x4000_0000, 0), [0x4000_0005, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]);
    assert_eq!(leaf(0x4000_0001, 0), [0x0004_0011, 0, 0, 0]);
    assert_eq!(leaf(0x4000_0002, 0), [1, 0x4000_0000, 1, 0]);
    assert_eq!(leaf(0x4000_0003, 0), [0b110, 0, 2_500_000, 0]);
    assert_eq!(leaf(0x4000_0003, 1), [2, 1, 0xcccc_cccc, u32::MAX]);
    assert_eq!(leaf(0x4000_0003, 2), [2_500_000, 0, 0, 0]);
    assert_eq!(leaf(0x4000_0003, 3), [0; 4]);
    assert_eq!(leaf(0x4000_0004, 0), [0; 4]);
    // 52 bits of the CPU, but never more than version 1 grant tables can say.
    assert_eq!(leaf(0x4000_0005, 0), [0, 44, 0, 0]);
    assert_eq!(leaf(0x4000_0006, 0), [0; 4]);
}

#[test]
fn topology_is_flat() {
    assert_eq!(modern(0xb, 0), [0, 1, 0x100, 3]);
    assert_eq!(modern(0xb, 1), [0, 1, 0x201, 3]);
    assert_eq!(modern(0xb, 5), [0, 0, 5, 3]);
    assert_eq!(modern(4, 0), [0x121, 0x02c0_003f, 0x3f, 0]);
}

#[test]
fn areas_for_xsave_have_the_sizes_of_what_is_offered() {
    assert_eq!(modern(0xd, 0), [0xe7, 576, 2688, 0]);
    let policy = CpuidPolicy::new(modern_host);
    assert_eq!(policy.xcr0_mask(), 0xe7);
    let sizes = |xcr0| {
        let view = GuestView { xcr0, ..view() };
        [policy.leaf(0xd, 0, &view)[EBX], policy.leaf(0xd, 1, &view)[EBX]]
    };
    assert_eq!(sizes(3), [576, 576]);
    assert_eq!(sizes(7), [832, 832]);
    assert_eq!(sizes(0xe7), [2688, 2432]);
    assert_eq!(modern(0xd, 1), [0b111, 576, 0, 0]);
    assert_eq!(modern(0xd, 2), [256, 576, 0, 0]);
    assert_eq!(modern(0xd, 7), [1024, 1664, 0, 0]);
}

#[test]
fn avx_goes_with_the_registers_it_needs() {
    let without_ymm = |leaf, subleaf| match (leaf, subleaf) {
        (0xd, 0) => [3, 576, 576, 0],
        _ => modern_host(leaf, subleaf),
    };
    let policy = CpuidPolicy::new(without_ymm);
    assert_eq!(policy.xcr0_mask(), 3);
    for feature in [features::AVX, features::AVX2, features::FMA, features::AVX512F, features::VAES] {
        assert!(!policy.features().has(feature));
    }
    assert!(policy.features().has(features::XSAVE));
    assert!(policy.features().has(features::AESNI));
}

#[test]
fn osxsave_shows_to_kernels_and_then_to_users() {
    let policy = CpuidPolicy::new(modern_host);
    let shows = |kernel, cr4| policy.leaf(1, 0, &GuestView { kernel, cr4, ..view() })[ECX] & OSXSAVE != 0;
    assert!(shows(true, 0x660));
    assert!(!shows(false, 0x660));
    assert!(shows(false, 0x4_0660));
}

#[test]
fn an_old_cpu_is_asked_only_for_what_it_has() {
    let policy = CpuidPolicy::new(old_host);
    let leaf = |leaf| policy.leaf(leaf, 0, &view());
    assert_eq!(policy.xcr0_mask(), 0);
    assert_eq!(policy.cr4_mask(), 0b1100);
    assert!(!policy.has_tsc_aux());
    assert_eq!(leaf(0xd), [0; 4]);
    assert_eq!(leaf(1)[ECX], 0x8000_2001);
    assert_eq!(leaf(0x8000_0008), [0x3028, 0, 0, 0]);
    assert_eq!(leaf(0x4000_0005), [0, 40, 0, 0]);
    // AMD repeats the features of leaf 1, and none that are hidden there.
    assert_eq!(leaf(0x8000_0001)[EDX], 0x2010_0800 | leaf(1)[EDX] & 0x0183_f3ff);
}

/// A host that answers with arbitrary numbers, the same to the same question.
fn arbitrary_host(seed: u64) -> impl Fn(u32, u32) -> Regs {
    move |leaf, subleaf| {
        let mut state = seed ^ (u64::from(leaf) << 32 | u64::from(subleaf));
        [0; 4].map(|_: u32| {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed >> 32) as u32
        })
    }
}

/// The modern host with arbitrary bits missing.
fn crippled_host(seed: u64) -> impl Fn(u32, u32) -> Regs {
    let arbitrary = arbitrary_host(seed);
    move |leaf, subleaf| {
        let regs = modern_host(leaf, subleaf);
        let cut = arbitrary(leaf, subleaf);
        match leaf {
            1 | 7 | 0x8000_0001 => core::array::from_fn(|index| regs[index] & (cut[index] | cut[(index + 1) % 4])),
            0xd if subleaf == 0 => [regs[EAX] & cut[EAX], regs[EBX], regs[ECX], regs[EDX]],
            _ => regs,
        }
    }
}

fn check_invariants(policy: &CpuidPolicy, view: &GuestView) {
    for (leaf, subleaf, register, bits) in HIDDEN {
        assert_eq!(
            policy.leaf(leaf, subleaf, view)[register] & bits,
            0,
            "leaf {leaf:#x}.{subleaf}, register {register}"
        );
    }
    assert!(policy.features().is_closed());
    assert!(policy.features().has(features::HYPERVISOR));

    let mask = policy.xcr0_mask();
    let has = |feature: Feature| policy.features().has(feature);
    assert_eq!(has(features::XSAVE), mask != 0);
    assert!(mask == 0 || xcr0::is_valid(mask, xcr0::KNOWN));
    assert_eq!(has(features::AVX), mask & xcr0::AVX != 0);
    assert_eq!(has(features::AVX512F), mask & xcr0::AVX512 == xcr0::AVX512);

    let area = policy.leaf(0xd, 0, view);
    if mask != 0 && policy.leaf(0, 0, view)[EAX] >= 0xd {
        assert_eq!(u64::from(area[EDX]) << 32 | u64::from(area[EAX]), mask);
        assert!((576..=8192).contains(&area[ECX]) && area[EBX] <= area[ECX]);
        for set in 2..64 {
            let [size, offset, ..] = policy.leaf(0xd, set, view);
            assert_eq!(size != 0, mask >> set & 1 != 0);
            assert!(size + offset <= area[ECX]);
        }
    }
    assert!(policy.leaf(0, 0, view)[EAX] <= 0xd);
    assert!((0x8000_0000..=0x8000_0008).contains(&policy.leaf(0x8000_0000, 0, view)[EAX]));
    assert!(policy.leaf(0x4000_0005, 0, view)[EBX] <= 44);
    assert_eq!(policy.leaf(1, 0, view)[EBX] >> 24, view.vcpu.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn invariants_hold_on_any_host(seed: u64, vcpu in 0u32..32, kernel: bool, xcr0 in 0u64..256) {
        let policies = [CpuidPolicy::new(arbitrary_host(seed)), CpuidPolicy::new(crippled_host(seed))];
        for policy in policies {
            let xcr0 = xcr0 & policy.xcr0_mask();
            check_invariants(&policy, &GuestView { vcpu: VcpuId(vcpu), kernel, xcr0, ..view() });
        }
    }

    #[test]
    fn any_question_has_an_answer(seed: u64, leaf: u32, subleaf: u32) {
        let policy = CpuidPolicy::new(crippled_host(seed));
        for leaf in [leaf, leaf & 0x8000_001f, 0x4000_0000 | leaf & 0xffff] {
            policy.leaf(leaf, subleaf, &view());
        }
    }
}

/// The CPU that QEMU plays, or one with its features that something else runs.
fn virtual_host(name: &'static [u8; 12]) -> impl FnMut(u32, u32) -> Regs {
    move |leaf, subleaf| match leaf {
        0x4000_0000 => {
            let word = |at: usize| u32::from_le_bytes(name[at..at + 4].try_into().unwrap());
            [0x4000_0001, word(0), word(4), word(8)]
        }
        _ => modern_host(leaf, subleaf),
    }
}

#[test]
fn no_software_cpu_says_that_it_is_fast_with_bytes() {
    const ERMS: u32 = 1 << 9;
    const FSRM: u32 = 1 << 4;
    for (name, fast) in [(b"TCGTCGTCGTCG", false), (b"KVMKVMKVM\0\0\0", true), (b"TCGTCGTCGTC\0", true)] {
        let policy = CpuidPolicy::new(virtual_host(name));
        let [_, leaf_7b, _, leaf_7d] = policy.leaf(7, 0, &view());
        assert_eq!((leaf_7b & ERMS != 0, leaf_7d & FSRM != 0), (fast, fast));
        // FZRM, FSRS, FSRCS.
        assert_eq!(policy.leaf(7, 1, &view())[EAX] & 0x1c00, if fast { 0x1c00 } else { 0 });
        assert_eq!(leaf_7b & !ERMS, modern(7, 0)[EBX] & !ERMS);
    }
}
