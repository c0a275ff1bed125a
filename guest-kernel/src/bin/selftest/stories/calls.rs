//! The hypercall mechanism itself: unknown numbers, the hypercall page, preserved registers.

use crate::check::{Told, call, equal};
use core::arch::asm;
use guest_kernel::hypercall;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{SCHED_OP, XEN_VERSION};
use pv_abi::version::XENVER_VERSION;

/// Numbers that name nothing, and one that only its high half makes wrong.
pub fn unknown() -> Told {
    let wild = [43, 47, 63, 64, 127, 128, 1000, 0x7fff_ffff, 0xffff_ffff, 1 << 32 | 17, 1 << 63 | 17, u64::MAX];
    for number in wild {
        // SAFETY: with all arguments 0 no call touches memory.
        let result = unsafe { hypercall::raw(number, [0; 5]) };
        equal(&alloc::format!("hypercall {number:#x}"), result, Errno::ENOSYS.code())?;
    }
    Ok(())
}

/// Calls through the page that the domain builder filled.
pub fn page() -> Told {
    let want = call(XEN_VERSION, [u64::from(XENVER_VERSION)]);
    equal("version", hypercall::answer(through_page(XEN_VERSION, 0)), want)?;
    equal("yield", through_page(SCHED_OP, 0), 0)?;
    equal("unknown command", through_page(XEN_VERSION, 99), Errno::ENOSYS.code())?;
    equal("unknown hypercall", through_page(63, 0), Errno::ENOSYS.code())
}

fn through_page(number: u32, argument: u64) -> i64 {
    unsafe extern "C" {
        static hypercall_page: u8;
    }
    let stub = &raw const hypercall_page as u64 + 32 * u64::from(number);
    let result;
    // SAFETY: the stub makes one hypercall, which has no memory argument, and returns; the stubs keep rcx and r11.
    unsafe {
        asm!("call {stub}", stub = in(reg) stub, out("rax") result, inout("rdi") argument => _, out("rsi") _,
            out("rdx") _, out("r8") _, out("r10") _, out("rcx") _, out("r11") _);
    }
    result
}

/// A hypercall destroys rax, rcx, r11 and the argument registers, and nothing else.
pub fn registers() -> Told {
    let mut saved = [0u64; 9];
    // SAFETY: the registers are put back, and the call only returns a number.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov rbx, 0x1111",
            "mov rbp, 0x2222",
            "mov r9, 0x3333",
            "mov r12, 0x4444",
            "mov r13, 0x5555",
            "mov r14, 0x6666",
            "mov eax, {version}",
            "xor edi, edi",
            // Carry set, zero clear.
            "stc",
            "syscall",
            "pushfq",
            "pop rax",
            "mov [r15], rbx",
            "mov [r15 + 8], rbp",
            "mov [r15 + 16], r9",
            "mov [r15 + 24], r12",
            "mov [r15 + 32], r13",
            "mov [r15 + 40], r14",
            "mov [r15 + 48], rax",
            "lea rax, [rsp]",
            "pop rbp",
            "pop rbx",
            "mov [r15 + 56], rax",
            "lea rax, [rsp - 16]",
            "mov [r15 + 64], rax",
            version = const XEN_VERSION,
            in("r15") saved.as_mut_ptr(),
            out("rax") _, out("rcx") _, out("r11") _, out("rdi") _, out("rsi") _, out("rdx") _, out("r8") _,
            out("r9") _, out("r10") _, out("r12") _, out("r13") _, out("r14") _,
        );
    }
    equal("rbx, rbp, r9, r12, r13, r14", &saved[..6], &[0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666])?;
    equal("carry flag", saved[6] & 1, 1)?;
    equal("direction flag", saved[6] & 1 << 10, 0)?;
    equal("rsp", saved[7], saved[8])
}
