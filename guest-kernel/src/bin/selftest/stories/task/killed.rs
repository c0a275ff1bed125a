//! What a task may not do.

use super::live;
use super::pages::touch_pages;
use crate::check::{Told, equal, fail, holds};
use alloc::format;
use guest_kernel::memory::{Access, DIRECT_MAP, Denied};
use guest_kernel::start::VIRT_BASE;
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{Death, End, HEAP, STACK, TEXT};
use guest_kernel::trap::Caught;
use guest_kernel::user_program;
use pv_abi::memory::MACH2PHYS_VIRT_START;

const KERNEL: u64 = VIRT_BASE + 0x10_0000;

user_program! {
    /// Does the forbidden thing with the number in `rdi`.
    fn forbidden, heap 1:
        "lea rbx, [rip + 6f]",
        "movsxd rax, dword ptr [rbx + 4 * rdi]",
        "add rax, rbx",
        "mov rsi, {kernel}",
        "mov rdi, {direct_map}",
        "mov r8, {m2p}",
        "mov r9, {heap}",
        "jmp rax",
        "20: mov rax, [rsi]",
        "21: mov [rsi], rax",
        "22: jmp rsi",
        "23: mov rax, [rdi]",
        "24: mov [rdi], rax",
        "25: mov rax, [r8]",
        "26: xor eax, eax; mov rax, [rax]",
        "27: xor eax, eax; mov [rax], rax",
        "28: xor eax, eax; jmp rax",
        "29: mov [rip + 20b], rax",
        "30: jmp r9",
        "31: mov [r9 + 0x1000], rax",
        "32: mov rax, {stack_start}; mov [rax - 8], rax",
        "33: mov rax, 0x800000000000; mov rax, [rax]",
        "34: hlt",
        "35: cli",
        "36: mov rax, cr3",
        "37: mov cr3, rax",
        "38: xor ecx, ecx; wrmsr",
        "39: lgdt [rsp]",
        "40: in al, dx",
        "41: ud2",
        "42: xor eax, eax; xor edx, edx; div eax",
        "43: int3",
        "44: fld1",
        "sys_exit",
        "6:",
        ".long 20b - 6b, 21b - 6b, 22b - 6b, 23b - 6b, 24b - 6b, 25b - 6b, 26b - 6b, 27b - 6b, 28b - 6b, 29b - 6b",
        ".long 30b - 6b, 31b - 6b, 32b - 6b, 33b - 6b, 34b - 6b, 35b - 6b, 36b - 6b, 37b - 6b, 38b - 6b, 39b - 6b",
        ".long 40b - 6b, 41b - 6b, 42b - 6b, 43b - 6b, 44b - 6b";
        heap = HEAP,
        kernel = KERNEL,
        direct_map = DIRECT_MAP,
        m2p = MACH2PHYS_VIRT_START,
        stack_start = STACK.start,
}

/// What a task may not do ends it, and nobody else: each program is followed by one that works.
pub fn each_alone() -> Told {
    let nowhere = |access, address| Death::Access(access, address, Denied::NoRegion);
    let forbidden_by_rights = |access, address| Death::Access(access, address, Denied::NoRight);
    let trap = |vector, error_code| Death::Trap(Caught { vector, error_code });
    use Access::{Execute, Read, Write};
    let deaths = [
        ("read the kernel", nowhere(Read, KERNEL)),
        ("write the kernel", nowhere(Write, KERNEL)),
        ("jump into the kernel", nowhere(Execute, KERNEL)),
        ("read the direct map", nowhere(Read, DIRECT_MAP)),
        ("write the direct map", nowhere(Write, DIRECT_MAP)),
        ("read the hypervisor's table", nowhere(Read, MACH2PHYS_VIRT_START)),
        ("read at 0", nowhere(Read, 0)),
        ("write at 0", nowhere(Write, 0)),
        ("jump to 0", nowhere(Execute, 0)),
        ("write its code", forbidden_by_rights(Write, 0)),
        ("execute its data", forbidden_by_rights(Execute, HEAP)),
        ("beyond its heap", nowhere(Write, HEAP + 4096)),
        ("below its stack", nowhere(Write, STACK.start - 8)),
        ("no address", trap(13, 0)),
        ("hlt", trap(13, 0)),
        ("cli", trap(13, 0)),
        ("read CR3", trap(13, 0)),
        ("write CR3", trap(13, 0)),
        ("wrmsr", trap(13, 0)),
        ("lgdt", trap(13, 0)),
        ("in", trap(13, 0)),
        ("ud2", trap(6, 0)),
        ("division", trap(0, 0)),
        ("int3", trap(3, 0)),
        ("floating point", trap(7, 0)),
    ];
    for (number, (what, death)) in (0..).zip(deaths) {
        let lives = live(&forbidden(), [number, 0, 0])?;
        let [(Pid(1), End::Killed(got))] = lives.ends[..] else { return fail(&format!("{what}: {:?}", lives.ends)) };
        let got = match (got, death) {
            // Where in its code the program is doesn't matter.
            (Death::Access(access, address, denied), Death::Access(_, 0, Denied::NoRight)) => {
                holds("code", (TEXT..TEXT + 4096).contains(&address))?;
                Death::Access(access, 0, denied)
            }
            _ => got,
        };
        equal(what, got, death)?;
        equal("the next one", live(&touch_pages(), [3, 0, 0])?.ends, [(Pid(1), End::Exited(0))].into())?;
    }
    Ok(())
}
