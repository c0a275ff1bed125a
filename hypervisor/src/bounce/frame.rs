//! The frames themselves, and the flags a guest may have.

use crate::domain::vcpu::{Mode, Vcpu};
use crate::guest::GuestRegisters;

/// Bits of RFLAGS, SDM volume 1, figure 3-8.
pub mod flags {
    pub const RESERVED_ONE: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF_VIP: u64 = 3 << 19;
    /// What a handler starts without.
    pub const CLEARED_ON_ENTRY: u64 = TF | NT | RF | VM | AC | IOPL;
    /// All flags that exist.
    pub const DEFINED: u64 = 0x3f_7fd7;
}

/// RFLAGS as a guest may have them: whatever it asks for, but interrupts on, I/O privilege and virtual-8086 off.
pub fn user_flags(asked: u64) -> u64 {
    asked & flags::DEFINED & !(flags::IOPL | flags::VM | flags::VIF_VIP) | flags::IF | flags::RESERVED_ONE
}

/// The words of a frame, lowest address first.
pub struct Frame {
    words: [u64; MOST],
    /// The first one in use: frames grow downwards from their common end.
    first: usize,
}

/// Words of the longest frame, the failsafe callback's.
const MOST: usize = 11;

impl Frame {
    /// RCX, R11, [error code,] RIP, CS and mask, RFLAGS, RSP, SS.
    #[inline]
    pub fn exception(regs: &GuestRegisters, vcpu: &Vcpu, error_code: Option<u64>) -> Frame {
        let [rip, cs, rflags, rsp, ss] = tail(regs, vcpu);
        let GuestRegisters { rcx, r11, .. } = *regs;
        match error_code {
            None => Frame { words: [0, 0, 0, 0, rcx, r11, rip, cs, rflags, rsp, ss], first: 4 },
            Some(code) => Frame { words: [0, 0, 0, rcx, r11, code, rip, cs, rflags, rsp, ss], first: 3 },
        }
    }

    /// RCX, R11, DS, ES, FS, GS, RIP, CS and mask, RFLAGS, RSP, SS.
    pub fn failsafe(regs: &GuestRegisters, vcpu: &Vcpu, selectors: [u16; 4]) -> Frame {
        let [rip, cs, rflags, rsp, ss] = tail(regs, vcpu);
        let [ds, es, fs, gs] = selectors.map(u64::from);
        Frame { words: [regs.rcx, regs.r11, ds, es, fs, gs, rip, cs, rflags, rsp, ss], first: 0 }
    }

    /// The words in use.
    #[inline]
    pub fn words(&self) -> &[u64] {
        self.words.get(self.first..).unwrap_or_default()
    }
}

/// RIP, CS, RFLAGS, RSP, SS as the guest kernel is to see them: its own ring shown as 0, its users' as 3; the upcall
/// mask in bits 32..40 of the CS word, and its inverse as IF.
#[inline]
fn tail(regs: &GuestRegisters, vcpu: &Vcpu) -> [u64; 5] {
    let selector = match vcpu.mode {
        Mode::Kernel => regs.cs & 0xfffc,
        Mode::User => regs.cs & 0xffff | 3,
    };
    let mask = vcpu.info.upcall_mask();
    let interrupts = if mask == 0 { flags::IF } else { 0 };
    let rflags = regs.rflags & !(flags::IF | flags::IOPL) | interrupts;
    [regs.rip, selector | u64::from(mask) << 32, rflags, regs.rsp, regs.ss & 0xffff]
}
