//! FPU, SSE and AVX registers of a vCPU: saved and loaded once per vCPU switch, never in a hypercall.
//!
//! The hypervisor itself is built without these registers, so between two switches they are the guest's.
//! Switching is eager: no register of one guest is ever there while another runs (XSA-267).

use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::ops::Range;

use x86_64::registers::control::{Cr0, Cr0Flags};

use super::cpu_features::{self, Features};

/// Register sets that guests may use: x87, SSE, AVX, AVX-512 (three). SDM volume 1, 13.1.
const OFFERED: u64 = 0b1110_0111;
/// What `fild` loads, so that what is left of the last x87 instruction is always the same.
static ZERO: u32 = 0;
/// Size of the area of FXSAVE.
const LEGACY_SIZE: usize = 512;
/// MXCSR and the x87 control word after a reset.
const MXCSR: (usize, u32) = (24, 0x1f80);
const FCW: u32 = 0x37f;

/// The register sets that XSAVE handles here, 0 if the CPU has no XSAVE. The same on all CPUs.
pub fn offered() -> u64 {
    if cpu_features::get().contains(Features::XSAVE) {
        let leaf = __cpuid_count(0xd, 0);
        (u64::from(leaf.edx) << 32 | u64::from(leaf.eax)) & OFFERED
    } else {
        0
    }
}

/// Makes all offered register sets accessible; XCR0 holds them whenever no guest's choice is loaded.
pub fn init_this_cpu() {
    let mask = offered();
    if mask != 0 {
        write_xcr0(mask);
    }
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// How registers are saved; they are loaded from the same layout by `xrstor`, or `fxrstor`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Save {
    /// `fxsave`.
    Legacy,
    /// `xsave`.
    All,
    /// `xsaveopt`, which leaves out what is as after a reset, or as it was loaded from this same area. Every save here follows
    /// a load from the same area on the same CPU, as it asks for (SDM volume 1, 13.9).
    Changed,
}

impl Save {
    /// The best that the CPU offers.
    fn best(mask: u64) -> Save {
        const XSAVEOPT: u32 = 1 << 0;
        match mask {
            0 => Save::Legacy,
            _ if __cpuid_count(0xd, 1).eax & XSAVEOPT != 0 => Save::Changed,
            _ => Save::All,
        }
    }
}

/// The saved registers of one vCPU.
pub struct Fpu {
    area: Vec<Line>,
    mask: u64,
    save: Save,
    /// What the last x87 instruction was may stay in the CPU: [`cpu_features::keeps_error_pointers`].
    clear_pointers: bool,
}

impl Fpu {
    /// Registers as after a reset.
    pub fn new() -> Fpu {
        let mask = offered();
        // Leaf 0xd, subleaf 0: ECX is the size for all sets that the CPU has, whatever XCR0 enables now.
        let size = if mask == 0 { LEGACY_SIZE } else { __cpuid_count(0xd, 0).ecx as usize };
        let mut area = vec![Line([0; 64]); size.div_ceil(64)];
        area[0].0[..4].copy_from_slice(&FCW.to_le_bytes());
        area[0].0[MXCSR.0..MXCSR.0 + 4].copy_from_slice(&MXCSR.1.to_le_bytes());
        Fpu { area, mask, save: Save::best(mask), clear_pointers: cpu_features::keeps_error_pointers() }
    }

    /// Registers as a guest gives them, in FXSAVE's layout: x87 and SSE, the others as after a reset.
    pub fn from_legacy(registers: &[u8; LEGACY_SIZE]) -> Fpu {
        /// Bits of MXCSR that every 64-bit CPU has; setting another faults when it is loaded.
        const MXCSR_MASK: u32 = 0xffbf;
        /// XSTATE_BV: x87 and SSE are in the area.
        const LEGACY_SETS: u8 = 3;
        let mut fpu = Fpu::new();
        for (line, bytes) in fpu.area.iter_mut().zip(registers.chunks_exact(64)) {
            line.0.copy_from_slice(bytes);
        }
        let at = MXCSR.0..MXCSR.0 + 4;
        let mut mxcsr = [0; 4];
        mxcsr.copy_from_slice(&registers[at.clone()]);
        fpu.area[0].0[at].copy_from_slice(&(u32::from_le_bytes(mxcsr) & MXCSR_MASK).to_le_bytes());
        if let Some(header) = fpu.area.get_mut(LEGACY_SIZE / 64) {
            header.0[0] = LEGACY_SETS;
        }
        fpu
    }

    /// The x87 and SSE registers in FXSAVE's layout. The others are not told.
    pub fn to_legacy(&self) -> [u8; LEGACY_SIZE] {
        /// Bytes of the x87 part, but for MXCSR and its mask, which lie in it; and of the SSE registers.
        const X87: [Range<usize>; 2] = [0..MXCSR.0, MXCSR.0 + 8..160];
        const SSE: Range<usize> = 160..416;
        // XSAVE and its kin write no set that is as after a reset: XSTATE_BV, behind the legacy area, says which.
        let sets = self.area.get(LEGACY_SIZE / 64).map_or(3, |header| header.0[0]);
        let mut registers = [0; LEGACY_SIZE];
        registers[..2].copy_from_slice(&FCW.to_le_bytes()[..2]);
        let mut saved = [0; LEGACY_SIZE];
        for (bytes, line) in saved.chunks_exact_mut(64).zip(&self.area) {
            bytes.copy_from_slice(&line.0);
        }
        let mut copy = |range: Range<usize>| registers[range.clone()].copy_from_slice(&saved[range]);
        if sets & 1 != 0 {
            X87.into_iter().for_each(&mut copy);
        }
        if sets & 2 != 0 {
            copy(SSE);
        }
        // MXCSR is written in any case.
        copy(MXCSR.0..MXCSR.0 + 4);
        registers
    }

    /// Saves the CPU's registers.
    pub fn save(&mut self) {
        self.open();
        let (low, high) = halves(self.mask);
        let area = self.area.as_mut_ptr();
        // SAFETY: the area is 64-byte aligned and as large as the CPU says it writes for this mask; TS is clear and
        // XCR0 enables the mask.
        unsafe {
            match self.save {
                Save::Legacy => asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)),
                Save::All => {
                    asm!("xsave64 [{}]", in(reg) area, in("eax") low, in("edx") high, options(nostack, preserves_flags));
                }
                Save::Changed => {
                    asm!("xsaveopt64 [{}]", in(reg) area, in("eax") low, in("edx") high, options(nostack, preserves_flags));
                }
            }
        }
    }

    /// Loads them. `xcr0` is the guest's choice of register sets, a part of what is offered.
    ///
    /// Loading an area that isn't as the CPU writes it would fault, in the hypervisor (XSA-53). No guest writes one: of what it
    /// gives ([`Fpu::from_legacy`]), the header is ours and MXCSR has only bits that there are.
    pub fn load(&self, xcr0: u64) {
        self.open();
        if self.clear_pointers {
            // SAFETY: TS is clear, and no exception is pending or enabled after `fninit`; all registers are loaded below.
            unsafe {
                asm!("fninit", "fild dword ptr [{}]", in(reg) &raw const ZERO, options(nostack, preserves_flags))
            };
        }
        let (low, high) = halves(self.mask);
        let area = self.area.as_ptr();
        // SAFETY: the area was filled by `new`, `from_legacy` or `save`, so it is valid; the hypervisor uses none of the
        // registers that change.
        unsafe {
            if self.mask == 0 {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags));
            } else {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") low, in("edx") high, options(nostack, preserves_flags));
                write_xcr0(xcr0);
            }
        }
    }

    /// Makes all register sets accessible to the hypervisor's own save and load.
    fn open(&self) {
        set_task_switched(false);
        if self.mask != 0 {
            write_xcr0(self.mask);
        }
    }
}

/// Sets or clears CR0.TS.
#[inline]
pub fn set_task_switched(on: bool) {
    // SAFETY: TS only decides whether a use of the FPU traps, and the hypervisor doesn't use it.
    unsafe {
        if on {
            Cr0::write_raw(Cr0::read_raw() | Cr0Flags::TASK_SWITCHED.bits());
        } else {
            asm!("clts", options(nomem, nostack, preserves_flags));
        }
    }
}

/// Sets XCR0 to a part of what is [`offered`], if it isn't so already.
pub fn write_xcr0(value: u64) {
    let (low, high): (u32, u32);
    let (new_low, new_high) = halves(value);
    // SAFETY: CR4.OSXSAVE is set on every CPU with XSAVE, and callers pass valid combinations of offered sets.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
        if (low, high) != (new_low, new_high) {
            asm!("xsetbv", in("ecx") 0, in("eax") new_low, in("edx") new_high, options(nostack, preserves_flags));
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
