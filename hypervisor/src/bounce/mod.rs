//! Entering the guest kernel: exceptions, system calls of its users, event upcalls; and its way back, `iret`.
//!
//! All of it is "write a frame to the guest kernel's stack and point the registers at a handler". The frame's layout
//! is ABI (`xen/arch-x86/xen.h` and the guest contract): from low to high addresses RCX, R11, an error code for the
//! vectors that have one, RIP, CS with the saved upcall mask in its upper half, RFLAGS, RSP, SS.
//!
//! What a guest may not gain here, and why it doesn't:
//! * It names stack pointers and handlers freely; they are used only through [`GuestCopy`], which accepts guest
//!   addresses alone, and a return never uses a selector below ring 3 ([`flat_code`]).
//! * RFLAGS from a guest keep IF set and IOPL, VM clear ([`user_flags`]): interrupts always reach the hypervisor.
//! * A guest that can't be entered has ended; it is never retried ([`Crash`]).
#![forbid(unsafe_code)]

mod frame;
#[cfg(test)]
mod tests;

use pv_abi::trap::{FLAT_RING3_CS64, FLAT_RING3_SS64, IretContext};
use pv_abi::vcpu::VcpuContextFlags;

use crate::domain::vcpu::{Callback, Mode, Vcpu};
use crate::domain::{Crash, Delivered};
use crate::guest::{GuestCopy, GuestRegisters, vector};
use frame::flags;

pub use frame::user_flags;

/// The machine as these rules need it.
pub trait GuestSpace: GuestCopy {
    /// Loads the page tables of `to` and swaps the active with the inactive GS base. Called only when the mode
    /// changes; `vcpu.mode` still holds the old one.
    fn switch_mode(&mut self, vcpu: &Vcpu, to: Mode);
}

/// An exception as the guest's handler is to see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// 0..=255; above 31 for software interrupts.
    pub vector: u8,
    /// Present for the vectors for which the CPU pushes one.
    pub error_code: Option<u32>,
}

impl Exception {
    /// #DB.
    pub const DEBUG: Exception = Exception::new(low(vector::DEBUG));
    /// An NMI.
    pub const NMI: Exception = Exception::new(low(vector::NMI));
    /// #UD.
    pub const INVALID_OPCODE: Exception = Exception::new(low(vector::INVALID_OPCODE));
    /// #NM.
    pub const DEVICE_NOT_AVAILABLE: Exception = Exception::new(low(vector::DEVICE_NOT_AVAILABLE));

    /// #GP.
    pub const fn general_protection(code: u32) -> Exception {
        Exception::with_code(low(vector::GENERAL_PROTECTION), code)
    }

    /// #PF.
    pub const fn page_fault(code: u32) -> Exception {
        Exception::with_code(low(vector::PAGE_FAULT), code)
    }

    /// An exception without an error code.
    pub const fn new(vector: u8) -> Exception {
        Exception { vector, error_code: None }
    }

    /// An exception with an error code.
    pub const fn with_code(vector: u8, code: u32) -> Exception {
        Exception { vector, error_code: Some(code) }
    }
}

/// A vector of the CPU's, as gates are numbered.
const fn low(vector: u32) -> u8 {
    let [low, ..] = vector.to_le_bytes();
    low
}

/// How the return to the guest may be made after a frame was built or consumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    /// All registers count.
    Full,
    /// RCX and R11 are free (they are on the guest's stack, or the guest said so).
    RcxR11Free,
}

/// Enters the guest's handler for an exception.
///
/// Inline: in some callers the vector is known, and with it the gate and the frame's form.
///
/// # Errors
/// [`Crash`] if there is no handler or no stack.
#[inline(always)]
pub fn exception(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
    exception: Exception,
) -> Result<Return, Crash> {
    let gate = vcpu.gates[usize::from(exception.vector)];
    if gate.address == 0 {
        return Err(Crash::NoHandler { vector: exception.vector });
    }
    let handler = Callback { address: gate.address, masks_events: gate.masks_events };
    let what = Delivered::Exception(exception.vector);
    match exception.error_code {
        None => deliver(vcpu, regs, space, handler, frame::plain(regs, vcpu), what),
        Some(code) => deliver(vcpu, regs, space, handler, frame::with_code(regs, vcpu, code), what),
    }
}

/// `int 0x80`, whose gate is open to users once it has a handler, whatever its privilege level says.
///
/// # Errors
/// [`Crash`] if the kernel can't be entered.
#[inline]
pub fn system_call_interrupt(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
) -> Result<Return, Crash> {
    const VECTOR: u8 = 0x80;
    if vcpu.gates[usize::from(VECTOR)].address == 0 {
        return no_gate(vcpu, regs, space, VECTOR);
    }
    exception(vcpu, regs, space, Exception::new(VECTOR))
}

/// A gate without a handler is no gate: delivering through it would end the domain on a user's word (XSA-259).
#[cold]
#[inline(never)]
fn no_gate(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
    vector: u8,
) -> Result<Return, Crash> {
    const LENGTH: u64 = 2;
    /// Error code of a fault that is about a gate of the IDT (SDM volume 3, 6.13).
    const IN_IDT: u32 = 1 << 1;
    regs.rip = regs.rip.wrapping_sub(LENGTH);
    let code = u32::from(vector) << 3 | IN_IDT;
    exception(vcpu, regs, space, Exception::general_protection(code))
}

/// Enters the event callback, which always masks further upcalls.
///
/// # Errors
/// [`Crash`] if none is registered or there is no stack.
pub fn upcall(vcpu: &mut Vcpu, regs: &mut GuestRegisters, space: &mut impl GuestSpace) -> Result<Return, Crash> {
    let handler = Callback { masks_events: true, ..vcpu.callbacks.event };
    if handler.address == 0 {
        return Err(Crash::NoCallback { what: "event" });
    }
    deliver(vcpu, regs, space, handler, frame::plain(regs, vcpu), Delivered::Event)
}

/// Which instruction a user program asked its kernel with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UserCall {
    /// `syscall` from 64-bit code.
    Syscall,
    /// `syscall` from 32-bit code.
    Syscall32,
    /// `sysenter`.
    Sysenter,
}

/// Hands a system call of a user program to its kernel; what the CPU would do on hardware without such an
/// instruction if the kernel has no entry point for it.
///
/// # Errors
/// [`Crash`] if the kernel can't be entered.
pub fn user_call(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
    call: UserCall,
) -> Result<Return, Crash> {
    const SYSCALL_LENGTH: u64 = 2;
    let handler = match call {
        UserCall::Syscall => vcpu.callbacks.syscall,
        UserCall::Syscall32 => vcpu.callbacks.syscall32,
        UserCall::Sysenter => vcpu.callbacks.sysenter,
    };
    if call == UserCall::Sysenter {
        // SYSENTER with NT set must reach the kernel once and with NT clear (XSA-339).
        regs.rflags &= !flags::NT;
    }
    match (handler.address, call) {
        (0, UserCall::Sysenter) => exception(vcpu, regs, space, Exception::general_protection(0)),
        (0, _) => {
            regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH);
            exception(vcpu, regs, space, Exception::INVALID_OPCODE)
        }
        _ => deliver(vcpu, regs, space, handler, frame::plain(regs, vcpu), Delivered::SystemCall),
    }
}

/// Enters the failsafe callback: segment registers (DS, ES, FS, GS as the guest had them) couldn't be loaded.
///
/// # Errors
/// [`Crash`] if none is registered or there is no stack.
pub fn failsafe(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
    selectors: [u16; 4],
) -> Result<Return, Crash> {
    let handler = vcpu.callbacks.failsafe;
    if handler.address == 0 {
        return Err(Crash::NoCallback { what: "failsafe" });
    }
    let frame = frame::failsafe(regs, vcpu, selectors);
    deliver(vcpu, regs, space, handler, frame, Delivered::Failsafe)
}

/// Writes the frame and points the registers at the handler.
///
/// Inlined into the few functions that call it, where the frame's length and more is known: the way of every page fault.
#[inline(always)]
fn deliver<const WORDS: usize>(
    vcpu: &mut Vcpu,
    regs: &mut GuestRegisters,
    space: &mut impl GuestSpace,
    handler: Callback,
    frame: [u64; WORDS],
    what: Delivered,
) -> Result<Return, Crash> {
    let stack = match vcpu.mode {
        Mode::User => vcpu.kernel_sp,
        Mode::Kernel => regs.rsp,
    };
    set_mode(vcpu, space, Mode::Kernel);
    let address = (stack & !15).wrapping_sub(8 * WORDS as u64);
    space.write(address, &frame).map_err(|_| Crash::BadStack { what, address })?;
    if handler.masks_events {
        vcpu.info.set_upcall_mask(true);
    }
    regs.rip = handler.address;
    regs.cs = FLAT_RING3_CS64.into();
    regs.ss = FLAT_RING3_SS64.into();
    regs.rsp = address;
    regs.rflags = regs.rflags & !flags::CLEARED_ON_ENTRY | flags::IF | flags::RESERVED_ONE;
    Ok(Return::RcxR11Free)
}

/// The `iret` hypercall: loads the context that the guest kernel left at its stack pointer.
///
/// # Errors
/// [`Crash`] if the frame can't be read, or if it asks for user mode and there are no user page tables.
#[inline]
pub fn iret(vcpu: &mut Vcpu, regs: &mut GuestRegisters, space: &mut impl GuestSpace) -> Result<Return, Crash> {
    let frame: IretContext = space.read(regs.rsp).map_err(|_| Crash::BadIretFrame { address: regs.rsp })?;
    if frame.cs & 3 == 3 {
        if vcpu.roots.user.is_none() {
            return Err(Crash::NoUserTables);
        }
        set_mode(vcpu, space, Mode::User);
    }
    regs.rax = frame.rax;
    regs.r11 = frame.r11;
    regs.rcx = frame.rcx;
    regs.rip = frame.rip;
    regs.cs = flat_code(frame.cs);
    regs.ss = flat_code(frame.ss);
    regs.rsp = frame.rsp;
    regs.rflags = user_flags(frame.rflags);
    vcpu.info.set_upcall_mask(frame.rflags & flags::IF == 0);
    vcpu.in_nmi = false;
    let fast = frame.flags & VcpuContextFlags::IN_SYSCALL.bits() != 0;
    let flat = regs.cs == u64::from(FLAT_RING3_CS64) && regs.ss == u64::from(FLAT_RING3_SS64);
    Ok(if fast && flat { Return::RcxR11Free } else { Return::Full })
}

/// A guest's selector, forced to ring 3. The upper bits of the word are not part of it.
fn flat_code(selector: u64) -> u64 {
    selector & 0xffff | 3
}

fn set_mode(vcpu: &mut Vcpu, space: &mut impl GuestSpace, to: Mode) {
    if vcpu.mode != to {
        space.switch_mode(vcpu, to);
        vcpu.mode = to;
    }
}
