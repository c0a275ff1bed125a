//! `iretq` from ring 3 to ring 3, on a CPU that reads its frame with the rights of ring 0.
//!
//! No real CPU does. QEMU before version 9 does, and with SMAP the guest's stack is then out of reach for it: a page fault
//! at the stack pointer that names ring 0. Linux returns to itself by `iretq` when it has patched its own code.

use super::cpu::GuestCpu;
use super::execute::{NOT_ALLOWED, low};
use super::fetch::Code;
use super::{Outcome, RFLAGS_TF, debug, is_64_bit};
use crate::addr::is_canonical;
use crate::bounce::{Exception, user_flags};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::guest::GuestRegisters;

/// The opcode with its REX.W prefix, of which the other bits mean nothing here.
const REX_W: core::ops::RangeInclusive<u8> = 0x48..=0x4f;
const IRET: u8 = 0xcf;

/// Executes the `iretq` of a guest kernel that took a page fault in the name of ring 0. `None` if there is none, or if its
/// frame can't be read: the guest gets its page fault.
pub fn iretq(vcpu: &mut Vcpu, regs: &mut GuestRegisters, cpu: &mut impl GuestCpu) -> Option<Outcome> {
    let &[rex, IRET, ..] = Code::fetch(cpu, regs.rip).bytes() else { return None };
    if vcpu.mode != Mode::Kernel || !REX_W.contains(&rex) || !is_64_bit(regs, cpu) {
        return None;
    }
    let [rip, cs, rflags, rsp, ss]: [u64; 5] = cpu.read(regs.rsp).ok()?;
    let (cs, ss) = (cs & 0xffff, ss & 0xffff);
    // The CPU checks what the selectors name when the hypervisor returns by them, and that they are for ring 3 here.
    for selector in [cs, ss] {
        if selector & 3 != 3 {
            return Some(Outcome::Raise(Exception::general_protection(low(selector & !3))));
        }
    }
    if !is_canonical(rip) {
        return Some(Outcome::Raise(NOT_ALLOWED));
    }
    let stepping = regs.rflags & RFLAGS_TF != 0;
    (regs.rip, regs.cs, regs.rflags, regs.rsp, regs.ss) = (rip, cs, user_flags(rflags), rsp, ss);
    if stepping {
        debug::note_single_step(&mut vcpu.control);
        return Some(Outcome::Raise(Exception::DEBUG));
    }
    Some(Outcome::Resume)
}
