//! From one stack to another.

use super::stack::Stack;
use core::arch::naked_asm;

/// Leaves this stack, whose pointer goes to `from`, for the one with pointer `to`. Returns when somebody switches back.
///
/// # Safety
/// `to` was stored by a switch that left that stack, or is [`first`]'s, and nobody else enters it; `from` stays valid until
/// this returns.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn switch(from: *mut u64, to: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Calls the function in rbx, which doesn't return, at the bottom of a new stack.
#[unsafe(naked)]
extern "sysv64" fn begin() {
    naked_asm!("call rbx", "ud2")
}

/// Lays out a new stack, so that a switch to it enters `entry`; the pointer to switch to.
///
/// # Safety
/// Nobody uses the stack.
pub unsafe fn first(stack: &Stack, entry: extern "sysv64" fn() -> !) -> u64 {
    // From the pointer up: r15 to r12, rbx, rbp, whose zero ends backtraces, and where `switch` returns to. `begin` finds
    // the stack aligned as a call wants it: the top is.
    let words = [0, 0, 0, 0, entry as usize as u64, 0, begin as *const () as u64];
    let pointer = stack.top() as u64 - size_of_val(&words) as u64;
    // SAFETY: the words lie in the stack, below its top, and nobody uses it.
    unsafe { (pointer as *mut [u64; 7]).write(words) };
    pointer
}
