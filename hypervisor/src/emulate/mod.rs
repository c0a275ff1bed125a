//! Privileged instructions, which a guest kernel executes in ring 3: what faults there, and what the guest then sees.
//!
//! A general-protection or invalid-opcode fault of a guest comes here first ([`general_protection`],
//! [`invalid_opcode`]). The instruction is fetched once, decoded, and either done on the guest's behalf or left to the
//! guest's own exception handler.
//!
//! * [`mod@decode`]: bytes to [`Instruction`]; `encoding`: what all instructions' bytes have in common;
//! * [`fetch`]: the bytes, read from the guest once;
//! * `execute`, with `control`, `io`, `msr` and `string`: what each instruction does;
//! * [`cpuid`]: which CPU the guest sees;
//! * [`table_store`]: ordinary instructions that store to a page table; [`mod@iretq`]: for a fault of QEMU's;
//! * [`debug`], [`xcr0`]: rules that hypercalls share with the instructions;
//! * [`cpu`]: the seam to the machine.
//!
//! Invariants:
//! * Another vCPU may rewrite the instruction while it is decoded. The bytes are copied once; at worst the guest gets
//!   what another instruction does, and that one it could have executed itself.
//! * An instruction has its effects and advances RIP, or raises its exception and changes no register. RIP never
//!   leaves the guest's canonical ranges.
//! * The work for one fault is bounded: a repeated string instruction makes one step and faults again.
//! * 32-bit code of guest users is never decoded: its bytes mean other instructions.
// The tests execute instructions on the CPU itself, to compare.
#![cfg_attr(not(test), forbid(unsafe_code))]

mod control;
pub mod cpu;
pub mod cpuid;
pub mod debug;
pub mod decode;
mod encoding;
mod execute;
pub mod fetch;
mod instruction;
pub mod io;
pub mod iretq;
mod msr;
mod string;
pub mod table_store;
#[cfg(test)]
mod tests;
pub mod xcr0;

use pv_abi::cpuid::XEN_EMULATE_PREFIX;
use pv_abi::trap::FLAT_RING3_CS64;

use crate::addr::GuestVa;
use crate::bounce::Exception;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::guest::GuestRegisters;
use decode::decode;
use execute::Context;
use fetch::Code;

pub use cpu::{GuestCpu, GuestTsc, Progress, Refused, SegmentBase};
pub use cpuid::CpuidPolicy;
pub use instruction::{AddressSize, Gpr, Instruction, OperandSize, Operation, Port, Segment, Width};

/// RFLAGS.TF: trap after each instruction (SDM volume 1, 3.4.3).
const RFLAGS_TF: u64 = 1 << 8;
/// RFLAGS.RF: no instruction breakpoint on the next instruction. The CPU clears it after each one.
const RFLAGS_RF: u64 = 1 << 16;

/// What becomes of the fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// The instruction was done: the guest goes on at the registers as they are now.
    Resume,
    /// The guest's handler is due, with the registers as they are now: unchanged for a fault, behind the instruction
    /// for a software interrupt and a single step.
    Raise(Exception),
}

/// Handles a general-protection fault that the guest took in ring 3. `regs` are those of the fault, with its error
/// code.
pub fn general_protection(vcpu: &mut Vcpu, regs: &mut GuestRegisters, cpu: &mut impl GuestCpu) -> Outcome {
    let original = Outcome::Raise(Exception::general_protection(regs.error_code));
    let cause = match regs.error_code {
        0 => Cause::Privilege,
        code if code & SELECTOR_TABLE == IN_IDT => Cause::SoftwareInterrupt,
        _ => return original,
    };
    if !is_64_bit(regs, cpu) {
        return original;
    }
    let Ok(instruction) = decode(Code::fetch(cpu, regs.rip).bytes()) else { return original };
    let Some(next) = next_rip(regs.rip, instruction.length) else { return original };
    match (cause, instruction.operation) {
        (Cause::SoftwareInterrupt, Operation::Int(vector)) => software_interrupt(vcpu, regs, vector, next),
        (Cause::SoftwareInterrupt, _) => original,
        (Cause::Privilege, operation) => match (Context { vcpu, regs, cpu }).execute(operation) {
            Ok(Progress::Done) => complete(vcpu, regs, next),
            Ok(Progress::Again) => single_step(vcpu, regs),
            Err(exception) => Outcome::Raise(exception),
        },
    }
}

/// Handles an invalid-opcode fault that the guest took in ring 3.
///
/// Behind the ABI's prefix a guest's `cpuid` reaches the hypervisor on any CPU (`arch-x86/xen.h`,
/// `__XEN_EMULATE_PREFIX`). Nothing else that is invalid is emulated.
pub fn invalid_opcode(vcpu: &mut Vcpu, regs: &mut GuestRegisters, cpu: &mut impl GuestCpu) -> Outcome {
    let original = Outcome::Raise(Exception::INVALID_OPCODE);
    if !is_64_bit(regs, cpu) || !is_forced_cpuid(Code::fetch(cpu, regs.rip).bytes()) {
        return original;
    }
    let Some(next) = next_rip(regs.rip, FORCED_CPUID_LENGTH) else { return original };
    Context { vcpu, regs, cpu }.cpuid();
    complete(vcpu, regs, next)
}

/// The two bits of a selector error code that name the table (SDM volume 3, 6.13).
const SELECTOR_TABLE: u32 = 0b11 << 1;
/// The IDT: the error code names a gate.
const IN_IDT: u32 = 0b01 << 1;

/// What a general-protection fault says of its cause.
enum Cause {
    /// Error code 0: no selector was involved, so maybe the instruction is privileged.
    Privilege,
    /// A gate's privilege level forbade the software interrupt. The error code's vector number isn't used: QEMU before
    /// version 8 doubles it in 64-bit mode.
    SoftwareInterrupt,
}

/// `int vector`. The CPU's own gates are closed to ring 3, and the guest's table decides.
fn software_interrupt(vcpu: &Vcpu, regs: &mut GuestRegisters, vector: u8, next: u64) -> Outcome {
    let gate = vcpu.gates[usize::from(vector)];
    // A gate without a handler is no gate: delivering through it would end the domain on a user's word (XSA-259).
    if gate.address == 0 || gate.dpl < ring(vcpu) {
        let code = u32::from(vector) << 3 | IN_IDT;
        return Outcome::Raise(Exception::general_protection(code));
    }
    advance(regs, next);
    Outcome::Raise(Exception::new(vector))
}

/// The ring that the guest believes to be in: its kernel is in ring 1, or 0 with the assist `architectural_iopl`.
fn ring(vcpu: &Vcpu) -> u8 {
    use pv_abi::trap::VMASST_TYPE_ARCHITECTURAL_IOPL;
    match vcpu.mode {
        Mode::User => 3,
        Mode::Kernel if vcpu.assists.has(VMASST_TYPE_ARCHITECTURAL_IOPL) => 0,
        Mode::Kernel => 1,
    }
}

fn is_64_bit(regs: &GuestRegisters, cpu: &mut impl GuestCpu) -> bool {
    let selector = (regs.cs & 0xffff) as u16;
    selector == FLAT_RING3_CS64 || cpu.is_64_bit_code(selector)
}

/// Length of the prefix with `cpuid`.
const FORCED_CPUID_LENGTH: u8 = 7;
const CPUID: [u8; 2] = [0x0f, 0xa2];

fn is_forced_cpuid(code: &[u8]) -> bool {
    code.strip_prefix(&XEN_EMULATE_PREFIX).is_some_and(|rest| rest.starts_with(&CPUID))
}

/// `None` if the next instruction isn't at a guest address: an instruction at the very end of a range isn't emulated,
/// so that no RIP arises on which the return to the guest could fault.
fn next_rip(rip: u64, length: u8) -> Option<u64> {
    GuestVa::new(rip)?.span(u64::from(length) + 1)?;
    Some(rip + u64::from(length))
}

fn advance(regs: &mut GuestRegisters, next: u64) {
    regs.rip = next;
    regs.rflags &= !RFLAGS_RF;
}

fn complete(vcpu: &mut Vcpu, regs: &mut GuestRegisters, next: u64) -> Outcome {
    advance(regs, next);
    single_step(vcpu, regs)
}

/// The trap that the CPU would have raised behind the instruction, had it executed it.
fn single_step(vcpu: &mut Vcpu, regs: &GuestRegisters) -> Outcome {
    if regs.rflags & RFLAGS_TF == 0 {
        return Outcome::Resume;
    }
    debug::note_single_step(&mut vcpu.control);
    Outcome::Raise(Exception::DEBUG)
}
