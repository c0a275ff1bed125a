//! System calls.

use super::live;
use crate::check::{Told, equal, holds};
use alloc::vec::Vec;
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{End, HEAP};
use guest_kernel::user_program;
use pv_abi::errno::Errno;

user_program! {
    /// Tries each system call, and exits with the number of the first that answers wrong.
    fn all_calls, heap 1:
        "mov r12d, 1",
        "sys_getpid",
        "cmp rax, 1",
        "jne 9f",
        "inc r12d",
        "lea rdi, [rip + 8f]",
        "mov esi, 5",
        "sys_write",
        "cmp rax, 5",
        "jne 9f",
        "inc r12d",
        // More than fits into one call.
        "mov rdi, rsp",
        "sub rdi, 400",
        "mov esi, 400",
        "sys_write",
        "cmp rax, 256",
        "jne 9f",
        "inc r12d",
        "xor edi, edi",
        "mov esi, 1",
        "sys_write",
        "cmp rax, {efault}",
        "jne 9f",
        "inc r12d",
        // A length that wraps.
        "mov rdi, rsp",
        "mov rsi, -1",
        "sys_write",
        "cmp rax, {efault}",
        "jne 9f",
        "inc r12d",
        // The kernel's address, which the kernel could read.
        "mov rdi, 0xffffffff80100000",
        "mov esi, 1",
        "sys_write",
        "cmp rax, {efault}",
        "jne 9f",
        "inc r12d",
        "sys_yield",
        "test rax, rax",
        "jne 9f",
        "inc r12d",
        "sys_wait",
        "cmp rax, {echild}",
        "jne 9f",
        "inc r12d",
        "mov edi, 2",
        "sys_grow",
        "cmp rax, {grown}",
        "jne 9f",
        "mov [rax + 0x1ff8], rax",
        "inc r12d",
        "mov rdi, 0x10000000",
        "sys_grow",
        "cmp rax, {enomem}",
        "jne 9f",
        "inc r12d",
        "mov eax, 1000",
        "syscall",
        "cmp rax, {enosys}",
        "jne 9f",
        "xor r12d, r12d",
        "9: mov rdi, r12",
        "sys_exit",
        "8: .ascii \"hello\"";
        efault = Errno::EFAULT.code(),
        echild = Errno::ECHILD.code(),
        enomem = Errno::ENOMEM.code(),
        enosys = Errno::ENOSYS.code(),
        grown = HEAP + 4096,
}

/// Every system call, and what it says to bad arguments.
pub fn all() -> Told {
    let lives = live(&all_calls(), [0; 3])?;
    equal("first call that answered wrong", lives.ends, [(Pid(1), End::Exited(0))].into())?;
    let said: Vec<(u32, &str)> = lives.said.iter().map(|(pid, text)| (pid.0, text.as_str())).collect();
    equal("said", said.len(), 2)?;
    equal("first", said[0], (1, "hello"))?;
    holds("second", said[1].0 == 1 && said[1].1.bytes().eq(core::iter::repeat_n(0, 256)))
}
