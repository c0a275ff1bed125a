//! Programs in user mode, for a look at what they share and at what they may not do.

use guest_kernel::memory::{self, Error};
use guest_kernel::start::VIRT_BASE;
use guest_kernel::task::{Event, HEAP, Tasks};
use guest_kernel::{println, user_program};

user_program! {
    /// Writes to four pages and forks three children. The first two change one page each; the third one reads what it
    /// must not. The parent waits for all of them.
    fn family, heap 16:
        "mov rbx, {heap}",
        "mov qword ptr [rbx], 1",
        "mov qword ptr [rbx + 0x1000], 1",
        "mov qword ptr [rbx + 0x2000], 1",
        "mov qword ptr [rbx + 0x3000], 1",
        "say 20f, 21f",
        "xor r12d, r12d",
        "2: inc r12d",
        "sys_fork",
        "test rax, rax",
        "js 9f",
        "jz 4f",
        "cmp r12d, 3",
        "jb 2b",
        "3: sys_wait",
        "test rax, rax",
        "jns 3b",
        "cmp qword ptr [rbx], 1",
        "jne 9f",
        "say 21f, 22f",
        "xor edi, edi",
        "sys_exit",
        // A child.
        "4: cmp r12d, 3",
        "je 5f",
        "mov [rbx], r12",
        "say 22f, 23f",
        "sys_yield",
        "cmp [rbx], r12",
        "jne 9f",
        "mov rdi, r12",
        "sys_exit",
        "5: say 23f, 24f",
        "mov rax, {kernel}",
        "mov rax, [rax]",
        "9: mov edi, 99",
        "sys_exit",
        "20: .ascii \"I have four pages and fork three children\"",
        "21: .ascii \"my pages are as they were\"",
        "22: .ascii \"I write to a page that I share\"",
        "23: .ascii \"I read the kernel's memory\"",
        "24:";
        heap = HEAP,
        kernel = VIRT_BASE + 0x10_0000,
}

/// Runs the family, and tells what it does and what it cost.
pub fn run() {
    if let Err(error) = try_run() {
        println!("tasks: {error}");
    }
}

fn try_run() -> Result<(), Error> {
    let free_frames = || memory::lock().map(|memory| memory.free_frames());
    println!("{} frames are free", free_frames()?);
    let mut tasks = Tasks::new();
    tasks.spawn(&family(), [0; 3])?;
    tasks.run(&mut |pid, event| match event {
        Event::Said(text) => println!("task {}: {}", pid.0, core::str::from_utf8(text).unwrap_or("?")),
        Event::Ended(end) => println!("task {} {end}", pid.0),
    })?;
    let counts = tasks.counts();
    println!("{} forks, {} system calls", counts.forks, counts.calls);
    println!("{} pages on demand, {} copied, {} reclaimed", counts.filled, counts.copied, counts.reclaimed);
    println!("{} frames are free", free_frames()?);
    Ok(())
}
