//! The CPU that a guest sees: CPUID, computed once from the machine's.
//!
//! What is not known is not shown: each feature bit comes from a list ([`features`]), each leaf from the table in
//! [`CpuidPolicy::leaf`], and the rest reads as zeros. Features whose needs are hidden are hidden too, and the sizes in
//! leaf 0xd are those of the register sets that XSETBV accepts.
//!
//! Every vCPU is a package of its own with one core and one thread, and its APIC id is its number. vCPUs move between
//! CPUs, so any closer kinship that a guest could read here would be untrue.
//!
//! Where the CPU can't make CPUID fault, a guest that executes the plain instruction sees the machine's CPU; kernels
//! therefore use the prefixed form.

pub mod features;
mod hypervisor;
#[cfg(test)]
pub(super) mod tests;
mod xstate;

use super::control::{CR4_DE, CR4_FSGSBASE, CR4_OSXSAVE, CR4_TSD};
use super::cpu::GuestTsc;
use crate::addr::VcpuId;
use features::{ERMS, FSGSBASE, FSRCS, FSRM, FSRS, FZRM, Feature, Features, HYPERVISOR, RDPID, RDTSCP, XSAVE, word};
use xstate::Xstate;

/// EAX, EBX, ECX, EDX.
pub type Regs = [u32; 4];

/// The highest basic leaf shown. Beyond are tracing, SGX, and clocks that the hypervisor's leaves describe.
const MAX_BASIC: u32 = xstate::LEAF;
const EXTENDED: u32 = 0x8000_0000;
/// The highest extended leaf shown.
const MAX_EXTENDED: u32 = 0x8000_0008;
/// Subleaves of leaf 4: one per cache.
const CACHES: usize = 8;
/// Linux chooses the larger grant-table entries above this, for frame numbers of more than 32 bits.
const MAX_ADDRESS_WIDTH: u32 = 44;
/// Bits of a virtual address, with four levels of page tables.
const VIRTUAL_WIDTH: u32 = 48;
/// Bits of a physical address on CPUs that don't say.
const DEFAULT_PHYSICAL_WIDTH: u32 = 36;
/// Bits of a physical address that a page-table entry has room for.
const MAX_PHYSICAL_WIDTH: u32 = 52;
/// Leaf 1, ECX.
const OSXSAVE: u32 = 1 << 27;
/// Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001.
const REPEATED_1D: u32 = 0x0183_f3ff;

/// What QEMU's software CPU calls itself in leaf 0x40000000: EBX, ECX, EDX.
const TCG: [u32; 3] = [u32::from_le_bytes(*b"TCGT"), u32::from_le_bytes(*b"CGTC"), u32::from_le_bytes(*b"GTCG")];
/// Promises that instructions for strings of bytes are fast.
const BYTE_STRINGS: [Feature; 5] = [ERMS, FSRM, FZRM, FSRS, FSRCS];

/// What of the asking vCPU shows in the answer.
#[derive(Clone, Copy, Debug)]
pub struct GuestView {
    /// Its number.
    pub vcpu: VcpuId,
    /// It is in kernel mode.
    pub kernel: bool,
    /// Its view of CR4.
    pub cr4: u64,
    /// Its XCR0.
    pub xcr0: u64,
    /// Its clock.
    pub tsc: GuestTsc,
}

/// Which CPU guests see.
#[derive(Clone)]
pub struct CpuidPolicy {
    features: Features,
    xstate: Xstate,
    /// Leaf 0.
    vendor: Regs,
    /// EAX of leaf 1: family, model, stepping. Its EBX: size of a cache line.
    signature: [u32; 2],
    /// Leaf 2: caches as one-byte codes.
    cache_codes: Regs,
    /// Leaf 4: caches in words.
    caches: [Regs; CACHES],
    /// The highest subleaf of leaf 7.
    max_leaf_7: u32,
    /// Leaf 0x80000000.
    extended_vendor: Regs,
    /// Leaf 0x80000001, EAX.
    extended_signature: u32,
    /// Leaves 0x80000002 to 6: the name, and AMD's words on caches.
    descriptions: [Regs; 5],
    physical_width: u32,
}

impl CpuidPolicy {
    /// Makes the policy from what the machine's CPUID answers to leaf and subleaf. It is asked only for leaves that it
    /// has.
    pub fn new(host: impl FnMut(u32, u32) -> Regs) -> CpuidPolicy {
        let mut host = Host::new(host);
        let mut features = Features::offered(feature_words(&mut host));
        if host.is_software() {
            BYTE_STRINGS.iter().for_each(|&feature| features.remove(feature));
        }
        let xstate = Xstate::new(&mut features, |subleaf| host.leaf(xstate::LEAF, subleaf));

        let [max_basic, ebx, ecx, edx] = host.leaf(0, 0);
        let vendor = [max_basic.min(MAX_BASIC), ebx, ecx, edx];
        let [_, ebx, ecx, edx] = host.leaf(EXTENDED, 0);
        let extended_vendor = [host.max_extended.min(MAX_EXTENDED), ebx, ecx, edx];
        let [signature, miscellaneous, ..] = host.leaf(1, 0);
        let [widths, ..] = host.leaf(EXTENDED + 8, 0);
        CpuidPolicy {
            features,
            xstate,
            vendor,
            signature: [signature, miscellaneous & 0xff00],
            cache_codes: host.leaf(2, 0),
            caches: caches(|subleaf| host.leaf(4, subleaf)),
            max_leaf_7: host.leaf(7, 0)[0].min(1),
            extended_vendor,
            extended_signature: host.leaf(EXTENDED + 1, 0)[0],
            descriptions: [2, 3, 4, 5, 6].map(|index| host.leaf(EXTENDED + index, 0)),
            physical_width: match widths & 0xff {
                0 => DEFAULT_PHYSICAL_WIDTH,
                width => width.min(MAX_PHYSICAL_WIDTH),
            },
        }
    }

    /// The answer to CPUID.
    pub fn leaf(&self, leaf: u32, subleaf: u32, view: &GuestView) -> Regs {
        if leaf >> 16 == 0x4000 {
            return hypervisor::leaf(leaf, subleaf, self, &view.tsc);
        }
        let highest = if leaf < EXTENDED { self.vendor[0] } else { self.extended_vendor[0] };
        if leaf > highest {
            return [0; 4];
        }
        let word = |index| self.features.word(index);
        match leaf {
            0 => self.vendor,
            1 => self.leaf_1(view),
            2 => self.cache_codes,
            4 => usize::try_from(subleaf).ok().and_then(|at| self.caches.get(at)).copied().unwrap_or_default(),
            7 => match subleaf {
                0 => [self.max_leaf_7, word(word::LEAF_7B), word(word::LEAF_7C), word(word::LEAF_7D)],
                1 => [word(word::LEAF_7_1A), 0, 0, 0],
                _ => [0; 4],
            },
            0xb => topology(subleaf, view.vcpu),
            xstate::LEAF => self.xstate.leaf(subleaf, word(word::XSAVE_1A), view.xcr0),
            EXTENDED => self.extended_vendor,
            0x8000_0001 => [self.extended_signature, 0, word(word::EXTENDED_1C), self.extended_1d()],
            0x8000_0002..=0x8000_0006 => {
                let index = (leaf - 0x8000_0002) as usize;
                self.descriptions.get(index).copied().unwrap_or_default()
            }
            0x8000_0007 => [0, 0, 0, word(word::EXTENDED_7D)],
            0x8000_0008 => [VIRTUAL_WIDTH << 8 | self.physical_width, word(word::EXTENDED_8B), 0, 0],
            _ => [0; 4],
        }
    }

    /// The bits of CR4 that a guest may change.
    pub fn cr4_mask(&self) -> u64 {
        let fsgsbase = if self.features.has(FSGSBASE) { CR4_FSGSBASE } else { 0 };
        let osxsave = if self.features.has(XSAVE) { CR4_OSXSAVE } else { 0 };
        CR4_TSD | CR4_DE | fsgsbase | osxsave
    }

    /// The register sets that a guest may name in XCR0; 0 without XSAVE.
    pub fn xcr0_mask(&self) -> u64 {
        self.xstate.mask()
    }

    /// Is it one of Intel's?
    pub fn is_intel(&self) -> bool {
        let [_, ebx, ecx, edx] = self.vendor;
        [ebx, edx, ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    }

    /// Is there an IA32_TSC_AUX register?
    pub fn has_tsc_aux(&self) -> bool {
        self.features.has(RDTSCP) || self.features.has(RDPID)
    }

    /// The features that guests see.
    pub fn features(&self) -> &Features {
        &self.features
    }

    fn leaf_1(&self, view: &GuestView) -> Regs {
        let [signature, cache_line] = self.signature;
        let apic_id = (view.vcpu.0 & 0xff) << 24;
        let one_thread = 1 << 16;
        // Kernels that test this bit before they set CR4.OSXSAVE would believe that there is no XSAVE.
        let shows_osxsave = self.features.has(XSAVE) && (view.kernel || view.cr4 & CR4_OSXSAVE != 0);
        let osxsave = if shows_osxsave { OSXSAVE } else { 0 };
        let word = |index| self.features.word(index);
        [signature, apic_id | one_thread | cache_line, word(word::LEAF_1C) | osxsave, word(word::LEAF_1D)]
    }

    fn extended_1d(&self) -> u32 {
        let repeated = if self.is_amd() { self.features.word(word::LEAF_1D) & REPEATED_1D } else { 0 };
        self.features.word(word::EXTENDED_1D) | repeated
    }

    /// AMD, or Hygon, which makes AMD's CPUs.
    fn is_amd(&self) -> bool {
        let [_, ebx, ..] = self.vendor;
        [*b"Auth", *b"Hygo"].map(u32::from_le_bytes).contains(&ebx)
    }
}

/// The machine's CPUID, with zeros for the leaves that it doesn't have.
struct Host<F> {
    cpuid: F,
    max_basic: u32,
    max_extended: u32,
}

impl<F: FnMut(u32, u32) -> Regs> Host<F> {
    fn new(mut cpuid: F) -> Host<F> {
        let max_basic = cpuid(0, 0)[0];
        // A CPU without extended leaves answers with something else.
        let max_extended = match cpuid(EXTENDED, 0)[0] {
            max if max >> 16 == EXTENDED >> 16 => max,
            _ => EXTENDED,
        };
        Host { cpuid, max_basic, max_extended }
    }

    /// Is it QEMU's software CPU?
    fn is_software(&mut self) -> bool {
        let [_, _, leaf_1c, _] = self.leaf(1, 0);
        // With this bit set, leaf 0x4000_0000 names whatever the machine runs on.
        leaf_1c & HYPERVISOR.mask() != 0 && (self.cpuid)(0x4000_0000, 0)[1..] == TCG
    }

    fn leaf(&mut self, leaf: u32, subleaf: u32) -> Regs {
        let highest = if leaf < EXTENDED { self.max_basic } else { self.max_extended };
        if leaf <= highest { (self.cpuid)(leaf, subleaf) } else { [0; 4] }
    }
}

/// The words that hold features.
fn feature_words<F: FnMut(u32, u32) -> Regs>(host: &mut Host<F>) -> [u32; word::COUNT] {
    let [_, _, leaf_1c, leaf_1d] = host.leaf(1, 0);
    let [max_leaf_7, leaf_7b, leaf_7c, leaf_7d] = host.leaf(7, 0);
    let [leaf_7_1a, ..] = if max_leaf_7 >= 1 { host.leaf(7, 1) } else { [0; 4] };
    let [_, _, extended_1c, extended_1d] = host.leaf(EXTENDED + 1, 0);
    let mut words = [0; word::COUNT];
    words[word::LEAF_1D] = leaf_1d;
    words[word::LEAF_1C] = leaf_1c;
    words[word::EXTENDED_1D] = extended_1d;
    words[word::EXTENDED_1C] = extended_1c;
    words[word::XSAVE_1A] = host.leaf(xstate::LEAF, 1)[0];
    words[word::LEAF_7B] = leaf_7b;
    words[word::LEAF_7C] = leaf_7c;
    words[word::EXTENDED_7D] = host.leaf(EXTENDED + 7, 0)[3];
    words[word::EXTENDED_8B] = host.leaf(EXTENDED + 8, 0)[1];
    words[word::LEAF_7D] = leaf_7d;
    words[word::LEAF_7_1A] = leaf_7_1a;
    words
}

/// Leaf 4, without the numbers of cores and threads.
fn caches(mut host: impl FnMut(u32) -> Regs) -> [Regs; CACHES] {
    const KIND: u32 = 0x1f;
    /// Kind, level, "self-initializing" and "fully associative".
    const ABOUT_THE_CACHE: u32 = 0x3ff;
    let mut caches = [[0; 4]; CACHES];
    for (cache, subleaf) in caches.iter_mut().zip(0..) {
        let [eax, ebx, ecx, edx] = host(subleaf);
        if eax & KIND == 0 {
            break;
        }
        *cache = [eax & ABOUT_THE_CACHE, ebx, ecx, edx & 0b111];
    }
    caches
}

/// Leaf 0xb: a thread is alone in its core, a core in its package.
fn topology(subleaf: u32, vcpu: VcpuId) -> Regs {
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    match subleaf {
        0 => [0, 1, THREADS, vcpu.0],
        1 => [0, 1, CORES | 1, vcpu.0],
        _ => [0, 0, subleaf & 0xff, vcpu.0],
    }
}
