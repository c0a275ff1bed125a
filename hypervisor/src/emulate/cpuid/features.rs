//! Feature bits: the list of what guests may see, and what needs what.
//!
//! Words and bits are numbered as in `arch-x86/cpufeatureset.h`. A bit that is not in [`OFFERED`] is hidden, so that a
//! feature of next year's CPU stays hidden until someone has thought about it. Hidden on purpose:
//!
//! | features | why |
//! |---|---|
//! | PSE, PSE36, PAGE1GB | guests map no superpages; Linux would write 2 MiB entries, and die |
//! | SMEP, SMAP, UMIP, LASS | both guest kernel and users are in ring 3: CLAC and STAC are invalid there |
//! | PKU, PKS, CET, LKGS, FRED, LA57, PCID, INVPCID, VME | they need bits of CR4 that are the hypervisor's |
//! | PGE | global pages separate guest users from guest kernel, and are the hypervisor's to set |
//! | MCE, MCA, MTRR, DS, DTES64, PDCM, DCA, IBS, LWP | registers that a guest lacks |
//! | X2APIC, EXTAPIC, TSC_ADJUST, TSC_DEADLINE | the same |
//! | IBRS, IBPB, STIBP, SSBD, L1D_FLUSH, ARCH_CAPS, CORE_CAPS | the same; kernels write them without asking again |
//! | ACPI, EIST, TM1, TM2, PBE, HWP, leaf 6 | power and heat are the hypervisor's |
//! | MONITOR, MONITORX, WAITPKG | a CPU waits in the hypervisor, where others can run |
//! | VMX, SVM, SMX, SKINIT, SGX | the machine is not the guest's |
//! | PT, PQM, PQE, leaf 0xa | tracing and accounting of the whole machine |
//! | XSAVES, XFD, AMX, MPX | supervisor state, and sets of registers that XCR0 may not name (see `xcr0`) |
//! | HLE, RTM | side channels, and the registers that close them are missing |
//! | HTT, CMP_LEGACY, TOPOEXT, NODEID | virtual CPUs are packages of one core each (see `super`) |
//! | FFXSR, DBEXT, OSVW | bits of EFER and registers that a guest lacks |
//! | on QEMU's software CPU: ERMS, FSRM, FZRM, FSRS, FSRCS | `rep stosb` and the like go byte by byte there; without them kernels use words |

/// A feature: its word and its bit in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    word: usize,
    bit: u8,
}

/// A word of features: a register of a CPUID leaf.
pub mod word {
    /// Leaf 1, EDX.
    pub const LEAF_1D: usize = 0;
    /// Leaf 1, ECX.
    pub const LEAF_1C: usize = 1;
    /// Leaf 0x80000001, EDX.
    pub const EXTENDED_1D: usize = 2;
    /// Leaf 0x80000001, ECX.
    pub const EXTENDED_1C: usize = 3;
    /// Leaf 0xd, subleaf 1, EAX.
    pub const XSAVE_1A: usize = 4;
    /// Leaf 7, EBX.
    pub const LEAF_7B: usize = 5;
    /// Leaf 7, ECX.
    pub const LEAF_7C: usize = 6;
    /// Leaf 0x80000007, EDX.
    pub const EXTENDED_7D: usize = 7;
    /// Leaf 0x80000008, EBX.
    pub const EXTENDED_8B: usize = 8;
    /// Leaf 7, EDX.
    pub const LEAF_7D: usize = 9;
    /// Leaf 7, subleaf 1, EAX.
    pub const LEAF_7_1A: usize = 10;
    /// How many there are.
    pub const COUNT: usize = 11;
}

/// Defines a constant for each feature, and the list of them all.
macro_rules! offered {
    ($($word:ident: $($name:ident $bit:literal),+;)+) => {
        $($(pub const $name: Feature = Feature { word: word::$word, bit: $bit };)+)+

        /// What a guest sees if the CPU has it.
        pub const OFFERED: &[Feature] = &[$($($name),+),+];
    };
}

#[allow(missing_docs, reason = "the names are the manuals'")]
mod list {
    use super::{Feature, word};

    offered! {
        LEAF_1D: FPU 0, DE 2, TSC 4, MSR 5, PAE 6, CX8 8, APIC 9, SEP 11, CMOV 15, PAT 16, CLFLUSH 19, MMX 23, FXSR 24,
            SSE 25, SSE2 26, SELF_SNOOP 27;
        LEAF_1C: SSE3 0, PCLMULQDQ 1, SSSE3 9, FMA 12, CX16 13, SSE4_1 19, SSE4_2 20, MOVBE 22, POPCNT 23, AESNI 25,
            XSAVE 26, AVX 28, F16C 29, RDRAND 30, HYPERVISOR 31;
        EXTENDED_1D: SYSCALL 11, NX 20, MMXEXT 22, RDTSCP 27, LM 29, AMD_3DNOWEXT 30, AMD_3DNOW 31;
        EXTENDED_1C: LAHF_LM 0, ABM 5, SSE4A 6, MISALIGNSSE 7, PREFETCHW 8, XOP 11, FMA4 16, TBM 21;
        XSAVE_1A: XSAVEOPT 0, XSAVEC 1, XGETBV1 2;
        LEAF_7B: FSGSBASE 0, BMI1 3, AVX2 5, FDP_EXCP_ONLY 6, BMI2 8, ERMS 9, NO_FPU_SEL 13, AVX512F 16, AVX512DQ 17,
            RDSEED 18, ADX 19, AVX512_IFMA 21, CLFLUSHOPT 23, CLWB 24, AVX512CD 28, SHA 29, AVX512BW 30, AVX512VL 31;
        LEAF_7C: PREFETCHWT1 0, AVX512_VBMI 1, AVX512_VBMI2 6, GFNI 8, VAES 9, VPCLMULQDQ 10, AVX512_VNNI 11,
            AVX512_BITALG 12, AVX512_VPOPCNTDQ 14, RDPID 22, CLDEMOTE 25, MOVDIRI 27, MOVDIR64B 28;
        EXTENDED_7D: INVARIANT_TSC 8;
        EXTENDED_8B: CLZERO 0, RSTR_FP_ERR_PTRS 2, SSB_NO 26, BTC_NO 29;
        LEAF_7D: FSRM 4, AVX512_VP2INTERSECT 8, MD_CLEAR 10, SERIALIZE 14, AVX512_FP16 23;
        LEAF_7_1A: AVX_VNNI 4, AVX512_BF16 5, FZRM 10, FSRS 11, FSRCS 12;
    }
}
pub use list::*;

/// A feature, and one without which it can't be used.
const NEEDS: &[(Feature, Feature)] = &[
    (SSE, FXSR),
    (SSE2, SSE),
    (MISALIGNSSE, SSE),
    (SSE3, SSE2),
    (SSSE3, SSE3),
    (SSE4A, SSE3),
    (SSE4_1, SSSE3),
    (SSE4_2, SSE4_1),
    (AESNI, SSE2),
    (PCLMULQDQ, SSE2),
    (SHA, SSE2),
    (GFNI, SSE2),
    (MMXEXT, MMX),
    (AMD_3DNOW, MMX),
    (AMD_3DNOWEXT, AMD_3DNOW),
    (XSAVE, FXSR),
    (XSAVEOPT, XSAVE),
    (XSAVEC, XSAVE),
    (XGETBV1, XSAVE),
    (AVX, XSAVE),
    (AVX, SSE2),
    (F16C, AVX),
    (FMA, AVX),
    (FMA4, AVX),
    (XOP, AVX),
    (AVX2, AVX),
    (VAES, AVX),
    (VAES, AESNI),
    (VPCLMULQDQ, AVX),
    (VPCLMULQDQ, PCLMULQDQ),
    (AVX_VNNI, AVX2),
    (AVX512F, AVX2),
    (AVX512F, FMA),
    (AVX512F, F16C),
    (AVX512DQ, AVX512F),
    (AVX512CD, AVX512F),
    (AVX512BW, AVX512F),
    (AVX512VL, AVX512F),
    (AVX512_IFMA, AVX512F),
    (AVX512_VNNI, AVX512F),
    (AVX512_VPOPCNTDQ, AVX512F),
    (AVX512_VP2INTERSECT, AVX512F),
    (AVX512_VBMI, AVX512BW),
    (AVX512_VBMI2, AVX512BW),
    (AVX512_BITALG, AVX512BW),
    (AVX512_BF16, AVX512BW),
    (AVX512_FP16, AVX512BW),
];

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features([u32; word::COUNT]);

impl Features {
    /// Of what the CPU has, the features that a guest may see.
    pub fn offered(host: [u32; word::COUNT]) -> Features {
        let host = Features(host);
        let mut offered = Features::default();
        for &feature in OFFERED.iter().filter(|&&feature| host.has(feature)) {
            offered.insert(feature);
        }
        offered.insert(HYPERVISOR);
        offered.close();
        offered
    }

    /// Is it in the set?
    pub fn has(&self, feature: Feature) -> bool {
        self.word(feature.word) & feature.mask() != 0
    }

    /// A word of the set, as the guest reads it.
    pub fn word(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Takes a feature away, and all that need it.
    pub fn remove(&mut self, feature: Feature) {
        self.clear(feature);
        self.close();
    }

    /// Takes away features that need one that is not there, until there is none.
    fn close(&mut self) {
        while let Some(&(orphan, _)) = NEEDS.iter().find(|(user, needed)| self.has(*user) && !self.has(*needed)) {
            self.clear(orphan);
        }
    }

    fn insert(&mut self, feature: Feature) {
        if let Some(word) = self.0.get_mut(feature.word) {
            *word |= feature.mask();
        }
    }

    fn clear(&mut self, feature: Feature) {
        if let Some(word) = self.0.get_mut(feature.word) {
            *word &= !feature.mask();
        }
    }

    /// Is there a feature whose needs are not met?
    #[cfg(test)]
    pub fn is_closed(&self) -> bool {
        NEEDS.iter().all(|(user, needed)| !self.has(*user) || self.has(*needed))
    }
}

impl Feature {
    /// Its bit in its word.
    pub const fn mask(self) -> u32 {
        1 << self.bit
    }
}
