//! Traps that are the guest's own: into its handler, and back by the `iret` hypercall, as Linux returns.

use crate::meter::{Effort, Measured};
use core::arch::{asm, global_asm};
use guest_kernel::trap;
use pv_abi::hypercall::IRET;
use pv_abi::trap::TrapInfo;

/// The vector of page faults.
const PAGE_FAULT: u8 = 14;
/// The one software interrupt that any hypervisor lets through whatever QEMU makes of it.
const SOFTWARE_INTERRUPT: u8 = 0x80;
/// Nothing is mapped here.
const UNMAPPED: u64 = 0x1000;

// Handlers that do nothing. On entry the stack has, from its top: rcx, r11, for a page fault an error code, rip, cs,
// rflags, rsp, ss. The frame of `iret`: rax, r11, rcx, flags, rip, and so on.
global_asm!(
    ".pushsection .text.bench_traps, \"ax\", @progbits",
    ".globl bench_touch, bench_page_fault, bench_interrupt",
    // Reads at rdi, which faults; the handler goes on behind it, with rcx lost.
    "bench_touch:",
    "    mov rax, [rdi]",
    "bench_touched:",
    "    ret",
    "bench_page_fault:",
    "    pop rcx",
    "    pop r11",
    "    mov qword ptr [rsp], 0",
    "    lea rcx, [rip + bench_touched]",
    "    mov [rsp + 8], rcx",
    "    jmp bench_return",
    "bench_interrupt:",
    "    pop rcx",
    "    pop r11",
    "    push 0",
    "bench_return:",
    "    push rcx",
    "    push r11",
    "    push rax",
    "    mov eax, {iret}",
    "    syscall",
    ".popsection",
    iret = const IRET,
);

unsafe extern "C" {
    static bench_page_fault: u8;
    static bench_interrupt: u8;
    fn bench_touch(address: u64);
}

/// A page fault.
pub fn page_fault(effort: Effort) -> Measured {
    with_handler(PAGE_FAULT, &raw const bench_page_fault, || {
        effort.count(1, || {
            // SAFETY: the read faults, and the handler skips it.
            unsafe { bench_touch(UNMAPPED) };
            0
        })
    })
}

/// `int 0x80`.
pub fn software_interrupt(effort: Effort) -> Measured {
    with_handler(SOFTWARE_INTERRUPT, &raw const bench_interrupt, || {
        effort.count(1, || {
            // SAFETY: the handler returns behind the instruction with all registers as they were.
            unsafe { asm!("int 0x80") };
            0
        })
    })
}

/// Does `work` with `handler` in the trap table for `vector`.
fn with_handler(vector: u8, handler: *const u8, work: impl FnOnce() -> Measured) -> Measured {
    let gate = |address| [TrapInfo { address, ..trap::gate(vector, 3) }, TrapInfo::default()];
    trap::install(&gate(handler as u64));
    let measured = work();
    trap::install(&gate(trap::stub_address(vector)));
    measured
}
