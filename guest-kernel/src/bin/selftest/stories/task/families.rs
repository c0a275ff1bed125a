//! Many tasks: families, crowds, and one that takes all there is.

use super::{free_frames, live};
use crate::check::{Told, equal, fail, holds};
use alloc::format;
use alloc::vec::Vec;
use guest_kernel::memory::{Access, Denied, Error};
use guest_kernel::task::roster::Pid;
use guest_kernel::task::{Death, End, HEAP};
use guest_kernel::user_program;

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
pub fn generations_of_three() -> Told {
    let lives = live(&generations(), [3, 0, 0])?;
    equal("ends", lives.ends.len(), 40)?;
    equal("the first one ends last", lives.ends.last().copied(), Some((Pid(1), End::Exited(40))))?;
    let childless = lives.ends.iter().filter(|(_, end)| *end == End::Exited(1));
    equal("tasks without children", childless.count(), 27)?;
    equal("forks", lives.counts.forks, 39)
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
    let tables = lives.counts.filled / 512;
    holds("frames that it could have had", lives.counts.filled + tables + 20 > free)
}
