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

/// The frame of an exception without an error code, of an upcall or a system call. Lowest address first, as all of them:
/// RCX, R11, RIP, CS and mask, RFLAGS, RSP, SS.
#[inline]
pub fn plain(regs: &GuestRegisters, vcpu: &Vcpu) -> [u64; 7] {
    let [rip, cs, rflags, rsp, ss] = tail(regs, vcpu);
    [regs.rcx, regs.r11, rip, cs, rflags, rsp, ss]
}

/// The frame of an exception with an error code: RCX, R11, the code, RIP, CS and mask, RFLAGS, RSP, SS.
#[inline]
pub fn with_code(regs: &GuestRegisters, vcpu: &Vcpu, code: u32) -> [u64; 8] {
    let [rip, cs, rflags, rsp, ss] = tail(regs, vcpu);
    [regs.rcx, regs.r11, code.into(), rip, cs, rflags, rsp, ss]
}

/// The failsafe callback's frame: RCX, R11, DS, ES, FS, GS, RIP, CS and mask, RFLAGS, RSP, SS.
pub fn failsafe(regs: &GuestRegisters, vcpu: &Vcpu, selectors: [u16; 4]) -> [u64; 11] {
    let [rip, cs, rflags, rsp, ss] = tail(regs, vcpu);
    let [ds, es, fs, gs] = selectors.map(u64::from);
    [regs.rcx, regs.r11, ds, es, fs, gs, rip, cs, rflags, rsp, ss]
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
