//! The 256 entry stubs and the common path that saves registers and returns by the `iret` hypercall.
//!
//! At a stub's first instruction the stack holds, from `rsp` up: rcx, r11, the error code (some vectors only), rip, cs
//! with the upcall mask above it, rflags, rsp, ss. See "exception frame" in the PV ABI (`xen/arch-x86/xen-x86_64.h`).

use super::frame::{SYSTEM_CALL, TrapFrame, UPCALL};
use super::user::KERNEL_STACK;
use core::arch::global_asm;
use core::mem::offset_of;

/// Bytes from one stub to the next.
const STRIDE: u64 = 16;

global_asm!(
    ".pushsection .text.trap_stubs, \"ax\", @progbits",
    ".balign 16",
    ".globl trap_stubs",
    "trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    "    .balign 16",
    "    pop rcx",
    "    pop r11",
    "    .if ({with_error_code} >> vector) & (vector < 32) & 1",
    "    .else",
    "        push 0",
    "    .endif",
    // `push imm32`, spelled out because the assembler would take the symbol for a memory operand.
    "    .byte 0x68",
    "    .long vector",
    "    jmp trap_common",
    "    .set vector, vector + 1",
    ".endr",
    // The event callback: the frame is that of a trap without error code.
    ".globl event_upcall",
    "event_upcall:",
    "    pop rcx",
    "    pop r11",
    "    push 0",
    "    push {upcall}",
    ".globl trap_common",
    "trap_common:",
    "    push rdi",
    "    push rsi",
    "    push rdx",
    "    push rcx",
    "    push rax",
    "    push r8",
    "    push r9",
    "    push r10",
    "    push r11",
    "    push rbx",
    "    push rbp",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    cld",
    // From user mode, if the kernel waits for it: on with the kernel, on its own stack.
    "    test byte ptr [rsp + {cs}], 3",
    "    jz 2f",
    "    mov rax, [rip + {kernel_stack}]",
    "    test rax, rax",
    "    jnz user_left",
    "2:  mov rdi, rsp",
    "    mov rbx, rsp",
    "    and rsp, -16",
    "    call {handle}",
    "    mov rsp, rbx",
    ".globl trap_return",
    "trap_return:",
    // The iret hypercall's flags.
    "    mov eax, [rsp + {vector}]",
    "    and eax, {system_call}",
    "    mov [rsp + {error_code}], rax",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbp",
    "    pop rbx",
    "    pop r11",
    "    pop r10",
    "    pop r9",
    "    pop r8",
    "    pop rax",
    "    pop rcx",
    "    pop rdx",
    "    pop rsi",
    "    pop rdi",
    // The iret hypercall's frame, from rsp up: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss. The vector's slot
    // becomes rcx; the error code's slot has the flags.
    "    mov [rsp], rcx",
    "    push r11",
    "    push rax",
    "    mov eax, {iret}",
    "    syscall",
    "    ud2",
    ".popsection",
    with_error_code = const WITH_ERROR_CODE,
    vector = const offset_of!(TrapFrame, vector),
    error_code = const offset_of!(TrapFrame, error_code),
    cs = const offset_of!(TrapFrame, cs),
    system_call = const SYSTEM_CALL,
    upcall = const UPCALL,
    kernel_stack = sym KERNEL_STACK,
    iret = const pv_abi::hypercall::IRET,
    handle = sym super::handle,
);

/// Vectors below 32 whose frame carries an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, and AMD's #VC and #SX.
const WITH_ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// The address to register for `vector`.
pub fn address(vector: u8) -> u64 {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    &raw const trap_stubs as u64 + STRIDE * u64::from(vector)
}

/// The address to register for event upcalls.
pub fn event_entry() -> u64 {
    unsafe extern "C" {
        static event_upcall: u8;
    }
    &raw const event_upcall as u64
}
