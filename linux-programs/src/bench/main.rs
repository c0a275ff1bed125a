//! Counts what the everyday operations of a Linux process cost: system calls, pipes, page faults, processes, signals.
//!
//! It runs inside a Linux guest under `-icount shift=0`, where the TSC counts the machine's instructions (APM volume 3,
//! RDTSC; QEMU's manual, "TCG Instruction Counting"), so what is counted is all that the machine does for the
//! operation: program, kernel and hypervisor. One line for each row: `linux-bench: NAME INSTRUCTIONS`, the mean of what some
//! processes find. The last line is `linux-bench: done`.
//!
//! As the first program of a guest (`rdinit=/bin/linux-bench`) it is alone with the kernel: no shell, no other process that
//! does something now and then.
//!
//! `linux-bench exit` ends at once, with code 0: what the rows about `exec` execute. `linux-bench row NAME` is one of the
//! processes.

mod memory;
mod pipes;
mod processes;
mod rounds;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{Pid, getpid, getppid};
use rounds::Row;
use std::hint::black_box;

/// The rows in the order in which they are told.
const ROWS: [Row; 14] = [
    Row { name: "getppid", run: system_call },
    Row { name: "pipe, write and read in one process", run: pipes::in_one_process },
    Row { name: "pipe, ping-pong of 2 processes", run: pipes::ping_pong },
    Row { name: "context switch, ring of 2 processes", run: pipes::ring_of_2 },
    Row { name: "context switch, ring of 8 processes", run: pipes::ring_of_8 },
    Row { name: "anonymous page fault, per page", run: memory::page_fault },
    Row { name: "mprotect of 256 pages, there and back", run: memory::protect },
    Row { name: "mmap, munmap", run: memory::map_and_unmap },
    Row { name: "fork, exit, wait", run: processes::fork_exit },
    Row { name: "fork, exec, exit, wait", run: processes::fork_exec },
    Row { name: "vfork, exec, exit, wait", run: processes::vfork_exec },
    Row { name: "signal to self", run: signal_to_self },
    Row { name: "compute loop of 1,000,000 steps", run: compute },
    Row { name: "build-like mix, per pair of processes", run: processes::build_mix },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [processes::EXIT] => {}
        [rounds::ROW, name] => one(name),
        _ => all(),
    }
}

/// Says what one row costs in this process.
fn one(name: &str) {
    match ROWS.iter().find(|row| row.name == name).map(rounds::median) {
        Some(Ok(count)) => println!("{count}"),
        Some(Err(error)) => println!("failed: {error}"),
        None => println!("failed: no such row"),
    }
}

/// Says what all rows cost.
fn all() {
    let is_first = getpid() == Pid::from_raw(1);
    if is_first && let Err(error) = mount_all() {
        println!("linux-bench: mount failed: {error}");
    }
    for row in &ROWS {
        match rounds::mean(row) {
            Ok(count) => println!("linux-bench: {} {count}", row.name),
            Err(error) => println!("linux-bench: {} {error}", row.name),
        }
    }
    println!("linux-bench: done");
    if is_first {
        // It returns an error or not at all, and the first program must not end.
        let error = reboot(RebootMode::RB_POWER_OFF);
        panic!("no power off: {error:?}");
    }
}

/// What the kernel leaves to its first program, and the rows need.
fn mount_all() -> nix::Result<()> {
    [("proc", "/proc"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")]
        .iter()
        .try_for_each(|(kind, place)| mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), None::<&str>))
}

/// The cheapest system call that the C library doesn't answer itself.
fn system_call() -> nix::Result<u64> {
    const TIMES: u64 = 2000;
    Ok(rounds::each(TIMES, || _ = black_box(getppid())))
}

extern "C" fn ignore(_signal: i32) {}

fn signal_to_self() -> nix::Result<u64> {
    const TIMES: u64 = 500;
    let action = SigAction::new(SigHandler::Handler(ignore), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it may run at any time.
    unsafe { sigaction(Signal::SIGUSR1, &action)? };
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and(raise(Signal::SIGUSR1)));
    result.map(|()| count)
}

/// Nothing but user mode: what timer ticks take away from a program that doesn't call anybody. Each time has two or three
/// of them, so several times count.
fn compute() -> nix::Result<u64> {
    const TIMES: u64 = 4;
    const STEPS: u64 = 1_000_000;
    Ok(rounds::each(TIMES, || {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..STEPS {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
    }))
}
