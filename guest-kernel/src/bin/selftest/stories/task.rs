//! Programs in user mode: registers, system calls, pages on demand, forks, and ends by force.

use crate::check::{Ending, Told, equal, fail, holds};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::memory::{self, Access, DIRECT_MAP, Denied, Error};
use guest_kernel::start::VIRT_BASE;
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{Counts, Death, End, Event, HEAP, Program, STACK, TEXT, Task, Tasks};
use guest_kernel::trap::{Caught, TrapFrame, user};
use guest_kernel::user_program;
use pv_abi::errno::Errno;
use pv_abi::memory::MACH2PHYS_VIRT_START;

/// What is not as the memory promises.
fn refusal(error: Error) -> Ending {
    Ending::Fail(format!("memory: {error}"))
}

/// How many frames are free.
fn free_frames() -> Result<u32, Ending> {
    Ok(memory::lock().map_err(refusal)?.free_frames())
}

/// What became of the tasks of a story.
struct Lives {
    said: Vec<(Pid, String)>,
    ends: Vec<(Pid, End)>,
    counts: Counts,
}

/// Runs a program and all its children to their ends. All frames must be back then.
fn live(program: &Program, arguments: [u64; 3]) -> Result<Lives, Ending> {
    let before = free_frames()?;
    let mut tasks = Tasks::new();
    tasks.spawn(program, arguments).map_err(refusal)?;
    let (mut said, mut ends) = (Vec::new(), Vec::new());
    let ran = tasks.run(&mut |pid, event| match event {
        Event::Said(text) => said.push((pid, String::from_utf8_lossy(text).into_owned())),
        Event::Ended(end) => ends.push((pid, end)),
    });
    ran.map_err(refusal)?;
    equal("free frames after all ends", free_frames()?, before)?;
    Ok(Lives { said, ends, counts: tasks.counts() })
}

user_program! {
    /// Makes one system call with a number that there isn't, then a page fault.
    fn call_and_fault, heap 1:
        "syscall",
        "mov rax, [rdi]",
}

/// Registers go to user mode and come back, by a system call and by a trap: all of them but those that the instruction
/// uses itself.
pub fn registers() -> Told {
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
pub fn system_calls() -> Told {
    let lives = live(&all_calls(), [0; 3])?;
    equal("first call that answered wrong", lives.ends, [(Pid(1), End::Exited(0))].into())?;
    let said: Vec<(u32, &str)> = lives.said.iter().map(|(pid, text)| (pid.0, text.as_str())).collect();
    equal("said", said.len(), 2)?;
    equal("first", said[0], (1, "hello"))?;
    holds("second", said[1].0 == 1 && said[1].1.bytes().eq(core::iter::repeat_n(0, 256)))
}

user_program! {
    /// Reads and writes `rdi` pages of its heap, twice, and exits with the number of those that aren't as they should be.
    fn touch_pages, heap 300:
        "mov rbx, {heap}",
        "mov r8d, 1",
        "2: cmp qword ptr [rbx + 0x800], 0",
        "je 3f",
        "inc r9",
        "3: mov [rbx + 8], r8",
        "add rbx, 4096",
        "inc r8",
        "cmp r8, rdi",
        "jbe 2b",
        "4: dec r8",
        "sub rbx, 4096",
        "cmp [rbx + 8], r8",
        "je 5f",
        "inc r9",
        "5: cmp r8, 1",
        "ja 4b",
        "mov rdi, r9",
        "sys_exit";
        heap = HEAP,
}

/// Pages come when they are touched, full of zeros and no earlier.
pub fn demand_paging() -> Told {
    for pages in [1, 2, 255, 256, 300] {
        let lives = live(&touch_pages(), [pages, 0, 0])?;
        equal("wrong pages", lives.ends, [(Pid(1), End::Exited(0))].into())?;
        equal("counts", lives.counts, Counts { calls: 1, filled: pages, ..Counts::default() })?;
    }
    let lives = live(&touch_pages(), [301, 0, 0])?;
    let beyond = Death::Access(Access::Read, HEAP + 300 * 4096 + 0x800, Denied::NoRegion);
    equal("beyond the heap", lives.ends, [(Pid(1), End::Killed(beyond))].into())
}

user_program! {
    /// Writes two pages and forks. Child and parent write the first one, and see their own. Exits with the number of the
    /// first thing that is wrong, the child with 7.
    fn fork_and_write, heap 2:
        "mov rbx, {heap}",
        "mov qword ptr [rbx], 11",
        "mov qword ptr [rbx + 0x1000], 12",
        "mov r12d, 1",
        "sys_fork",
        "test rax, rax",
        "jz 5f",
        // The parent: the child has the next number, and ends with 7.
        "cmp rax, 2",
        "jne 9f",
        "inc r12d",
        "sys_wait",
        "cmp rax, 2",
        "jne 9f",
        "inc r12d",
        "cmp rdx, 7",
        "jne 9f",
        "inc r12d",
        "cmp qword ptr [rbx], 11",
        "jne 9f",
        "mov qword ptr [rbx], 13",
        "inc r12d",
        "sys_wait",
        "cmp rax, {echild}",
        "jne 9f",
        "xor r12d, r12d",
        "9: mov rdi, r12",
        "sys_exit",
        // The child.
        "5: mov r12d, 100",
        "cmp qword ptr [rbx], 11",
        "jne 9b",
        "inc r12d",
        "mov qword ptr [rbx], 14",
        "cmp qword ptr [rbx], 14",
        "jne 9b",
        "inc r12d",
        "cmp qword ptr [rbx + 0x1000], 12",
        "jne 9b",
        "sys_getpid",
        "inc r12d",
        "cmp rax, 2",
        "jne 9b",
        "mov r12d, 7",
        "jmp 9b";
        heap = HEAP,
        echild = Errno::ECHILD.code(),
}

/// A fork shares pages until one of the two writes; then each has its own.
pub fn fork() -> Told {
    let lives = live(&fork_and_write(), [0; 3])?;
    equal("ends", lives.ends, [(Pid(2), End::Exited(7)), (Pid(1), End::Exited(0))].into())?;
    // The child copies the first page, and the parent is the only one left with the old one.
    equal("counts", lives.counts, Counts { calls: 6, forks: 1, filled: 2, copied: 1, reclaimed: 1 })
}

user_program! {
    /// Forks three children who do the same one generation less, `rdi` generations in all. Exits with the number of its
    /// descendants and itself. The stack is in use all the time.
    fn generations, heap 1:
        "mov r12, rdi",
        "2: xor r13d, r13d",
        "test r12, r12",
        "jz 7f",
        "mov r14d, 3",
        "3: push r14",
        "sys_fork",
        "test rax, rax",
        "jnz 4f",
        "dec r12",
        "jmp 2b",
        "4: pop r14",
        "dec r14",
        "jnz 3b",
        "mov r14d, 3",
        "5: sys_wait",
        "test rax, rax",
        "js 6f",
        "add r13, rdx",
        "dec r14",
        "jnz 5b",
        "7: lea rdi, [r13 + 1]",
        "sys_exit",
        "6: mov rdi, -1",
        "sys_exit",
}

/// Children who fork themselves, all waited for.
pub fn family() -> Told {
    let lives = live(&generations(), [3, 0, 0])?;
    equal("ends", lives.ends.len(), 40)?;
    equal("the first one ends last", lives.ends.last().copied(), Some((Pid(1), End::Exited(40))))?;
    let childless = lives.ends.iter().filter(|(_, end)| *end == End::Exited(1));
    equal("tasks without children", childless.count(), 27)?;
    equal("forks", lives.counts.forks, 39)
}

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

const KERNEL: u64 = VIRT_BASE + 0x10_0000;

/// What a task may not do ends it, and nobody else: each program is followed by one that works.
pub fn killed() -> Told {
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

user_program! {
    /// Forks `rdi` children, who all live until the last one is there, and exits without waiting for them.
    fn crowd, heap 1:
        "mov r12, rdi",
        "mov rbx, {heap}",
        "2: sys_fork",
        "test rax, rax",
        "js 5f",
        "jz 3f",
        "dec r12",
        "jnz 2b",
        "xor edi, edi",
        "sys_exit",
        "3: mov [rbx], r12",
        "sys_yield",
        "mov rdi, [rbx]",
        "sys_exit",
        "5: mov rdi, -1",
        "sys_exit";
        heap = HEAP,
}

user_program! {
    /// Writes one new page after the other.
    fn glutton, heap 1:
        "mov edi, 0x30000",
        "sys_grow",
        "2: mov [rax], rax",
        "add rax, 4096",
        "jmp 2b",
}

/// Many tasks at once, whose parent doesn't wait for them; and one that takes all the memory there is.
pub fn many() -> Told {
    let lives = live(&crowd(), [300, 0, 0])?;
    let mut statuses: Vec<_> = lives.ends.iter().map(|(_, end)| *end).collect();
    statuses.sort_by_key(|end| if let End::Exited(status) = end { *status } else { u64::MAX });
    holds("a status for each", statuses.into_iter().eq((0..=300).map(End::Exited)))?;
    // Each child wrote the page that all shared.
    equal("pages", lives.counts.filled + lives.counts.copied + lives.counts.reclaimed, 300)?;

    let free = u64::from(free_frames()?);
    let lives = live(&glutton(), [0; 3])?;
    let [(Pid(1), End::Killed(Death::Access(Access::Write, address, denied)))] = lives.ends[..] else {
        return fail(&format!("glutton: {:?}", lives.ends));
    };
    equal("why", denied, Denied::Memory(Error::OutOfFrames))?;
    equal("where", (address - HEAP) / 4096 - 1, lives.counts.filled)?;
    holds("frames that it could have had", lives.counts.filled + 64 > free)
}
