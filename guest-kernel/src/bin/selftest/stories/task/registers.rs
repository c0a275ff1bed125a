//! Registers on the way to user mode and back.

use super::{free_frames, refusal};
use crate::check::{Told, equal, holds};
use guest_kernel::memory;
use guest_kernel::task::{HEAP, TEXT, Task};
use guest_kernel::trap::{Caught, TrapFrame, user};
use guest_kernel::user_program;

user_program! {
    /// Makes one system call with a number that there isn't, then a page fault.
    fn call_and_fault, heap 1:
        "syscall",
        "mov rax, [rdi]",
}

/// Registers go to user mode and come back, by a system call and by a trap: all of them but those that the instruction
/// uses itself.
pub fn there_and_back() -> Told {
    const CARRY_AND_DIRECTION: u64 = 1 | 1 << 10;
    let before = free_frames()?;
    let mut task = Task::new(&mut *memory::lock().map_err(refusal)?, &call_and_fault(), [HEAP; 3]).map_err(refusal)?;
    memory::lock().map_err(refusal)?.activate(&task.space).map_err(refusal)?;
    holds("entries from user mode", user::init().is_ok())?;

    task.registers.rflags |= CARRY_AND_DIRECTION;
    let mut pattern = 0x0123_4567_89ab_cdef;
    for register in general(&mut task.registers) {
        pattern = u64::rotate_left(pattern, 4);
        *register = pattern;
    }
    task.registers.rsp = 0xffff_8123_4567_89a8;
    task.registers.rdi = HEAP;
    let mut expected = task.registers;

    user::run(&mut task.registers);
    let got = &mut task.registers;
    holds("a system call", got.is_system_call())?;
    equal("rip", got.rip, TEXT + 2)?;
    equal("rcx, by the instruction", got.rcx, TEXT + 2)?;
    equal("flags", got.rflags & 0xfff, expected.rflags & 0xfff)?;
    equal("flags in r11, by the instruction", got.r11 & CARRY_AND_DIRECTION, CARRY_AND_DIRECTION)?;
    equal("stack", got.rsp, expected.rsp)?;
    (expected.rcx, expected.r11) = (got.rcx, got.r11);
    equal("registers", general(got).map(|register| *register), general(&mut expected).map(|register| *register))?;

    // Back from a call rcx and r11 need not be what the frame says; the trap shows what they are.
    got.rax = 0xaaaa;
    expected.rax = 0xaaaa;
    user::run(&mut task.registers);
    let got = &mut task.registers;
    equal("the load", got.caught(), Caught { vector: 14, error_code: 4 })?;
    equal("selector", got.cs & 3, 3)?;
    equal("rip", got.rip, TEXT + 2)?;
    (got.rcx, got.r11) = (expected.rcx, expected.r11);
    equal("registers", general(got).map(|register| *register), general(&mut expected).map(|register| *register))?;

    // Back from a trap all are. The same load faults again.
    (got.rcx, got.r11) = (0xcccc, 0xbbbb);
    (expected.rcx, expected.r11) = (0xcccc, 0xbbbb);
    user::run(&mut task.registers);
    let got = &mut task.registers;
    equal("the load again", got.caught(), Caught { vector: 14, error_code: 4 })?;
    equal("registers", general(got).map(|register| *register), general(&mut expected).map(|register| *register))?;
    equal("flags", got.rflags & 0xfff, expected.rflags & 0xfff)?;

    let mut memory = memory::lock().map_err(refusal)?;
    memory.deactivate().map_err(refusal)?;
    task.end(&mut memory).map_err(refusal)?;
    equal("free frames", memory.free_frames(), before)
}

/// The general registers but the stack pointer.
fn general(frame: &mut TrapFrame) -> [&mut u64; 15] {
    let TrapFrame { r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, .. } = frame;
    [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi]
}
