//! Pages on demand, and copies on write.

use super::live;
use crate::check::{Told, equal};
use guest_kernel::memory::{Access, Denied};
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{Counts, Death, End, HEAP};
use guest_kernel::user_program;
use pv_abi::errno::Errno;

user_program! {
    /// Reads and writes `rdi` pages of its heap, twice, and exits with the number of those that aren't as they should be.
    pub fn touch_pages, heap 300:
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
pub fn on_demand() -> Told {
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
