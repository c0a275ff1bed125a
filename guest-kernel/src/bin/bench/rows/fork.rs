//! Processes: forks with copy on write, in user mode.

use crate::meter::{Effort, Measured};
use guest_kernel::memory::Error;
use guest_kernel::task::{Event, HEAP, Tasks};
use guest_kernel::user_program;
use pv_abi::errno::Errno;

/// The parent's pages that it writes to.
const PAGES: u64 = 64;

user_program! {
    /// Writes to all pages of its heap, forks, and waits for the child, which ends at once; as often as its argument
    /// says.
    fn forks, heap 64:
        "mov r12, rdi",
        "2:",
        "mov rdi, {heap}",
        "mov ecx, {pages}",
        "3:",
        "mov [rdi], rcx",
        "add rdi, 4096",
        "dec ecx",
        "jnz 3b",
        "sys_fork",
        "test rax, rax",
        "jz 4f",
        "sys_wait",
        "dec r12",
        "jnz 2b",
        "4:",
        "xor edi, edi",
        "sys_exit"; heap = HEAP, pages = PAGES
}

/// A page's share of a process's fork and its child's end, when the process has 64 pages and writes to all of them
/// between two forks.
pub fn fork_exit(effort: Effort) -> Measured {
    let mut tasks = Tasks::new();
    let mut laps = effort.laps(PAGES);
    let parent = tasks.spawn(&forks(), [laps.needed(), 0, 0]).map_err(refusal)?;
    let mut observe = |pid, event: Event<'_>| {
        if pid != parent && matches!(event, Event::Ended(_)) {
            laps.lap();
        }
    };
    tasks.run(&mut observe).map_err(refusal)?;
    laps.figure()
}

fn refusal(error: Error) -> Errno {
    match error {
        Error::Unsupported => Errno::ENOSYS,
        Error::OutOfFrames => Errno::ENOMEM,
        Error::Refused(errno) => errno,
    }
}
