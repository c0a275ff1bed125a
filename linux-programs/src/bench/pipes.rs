//! Pipes, and processes that wait for each other at them.

use super::rounds;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe, read, write};
use std::os::fd::OwnedFd;
use std::process::exit;

/// A token goes round this often.
const TIMES: u64 = 200;

/// Writes one byte to a pipe and reads it back: two system calls, no switch.
pub fn in_one_process() -> nix::Result<u64> {
    let (from, to) = pipe()?;
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and_then(|()| send(&to)).and_then(|()| receive(&from)));
    result.map(|()| count)
}

/// A byte to another process and an answer from there: two switches.
pub fn ping_pong() -> nix::Result<u64> {
    ring(2)
}

/// One switch between 2 processes.
pub fn ring_of_2() -> nix::Result<u64> {
    Ok(ring(2)? / 2)
}

/// One switch in a ring of 8 processes, each with an address space of its own.
pub fn ring_of_8() -> nix::Result<u64> {
    Ok(ring(8)? / 8)
}

/// Instructions until a byte has gone once through the pipes of `processes`, of which this one is the first.
fn ring(processes: usize) -> nix::Result<u64> {
    let pipes = (0..processes).map(|_| pipe()).collect::<nix::Result<Vec<_>>>()?;
    let mut children = Vec::new();
    for index in 1..processes {
        // SAFETY: this process has one thread, so the child may go on as if it were the parent.
        match unsafe { fork()? } {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                let (from, to) = (&pipes[index - 1].0, &pipes[index].1);
                let passed = (0..TIMES).try_for_each(|_| receive(from).and_then(|()| send(to)));
                exit(i32::from(passed.is_err()));
            }
        }
    }
    let (to, from) = (&pipes[0].1, &pipes[processes - 1].0);
    let mut result = Ok(());
    let count = rounds::each(TIMES, || result = result.and_then(|()| send(to)).and_then(|()| receive(from)));
    for child in children {
        waitpid(child, None)?;
    }
    result.map(|()| count)
}

fn send(to: &OwnedFd) -> nix::Result<()> {
    write(to, b"x").map(drop)
}

fn receive(from: &OwnedFd) -> nix::Result<()> {
    read(from, &mut [0]).map(drop)
}
