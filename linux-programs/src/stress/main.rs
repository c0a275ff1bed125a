//! Hammers a Linux guest from all sides at once, and checks every result.
//!
//! `linux-stress SECONDS [FOLDER]`: processes, address spaces, pipes, signals, threads and vector registers, and files in
//! FOLDER (`/tmp` when left out). One line for each kind of work, then `linux-stress: passed` or
//! `linux-stress: failed: WHY`. What can go wrong under a hypervisor is wrong in it quietly: a register of somebody
//! else's, a page that comes back with other contents, a wake-up that never comes. So every worker computes something
//! that it can check.

mod files;
mod memory;
mod pipes;
mod processes;
mod signals;
mod threads;
mod vectors;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};

/// A kind of work: what it is called, and what does one round of it. The number differs for each round.
type Work = (&'static str, fn(u64, &Path) -> Result<(), String>);

const WORK: [Work; 7] = [
    ("files", files::round),
    ("memory", memory::round),
    ("pipes", pipes::round),
    ("processes", processes::round),
    ("signals", signals::round),
    ("threads", threads::round),
    ("vectors", vectors::round),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(processes::EXIT) {
        return ExitCode::from(processes::CODE);
    }
    let Some(seconds) = first.and_then(|text| text.parse().ok()) else {
        eprintln!("linux-stress SECONDS [FOLDER]");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp".to_owned()));
    match all(Duration::from_secs(seconds), &folder) {
        Ok(()) => {
            println!("linux-stress: passed");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("linux-stress: failed: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A process for each kind of work, all at once.
fn all(time: Duration, folder: &Path) -> Result<(), String> {
    let mut workers = Vec::new();
    for (name, round) in WORK {
        // SAFETY: this process has one thread, so the child may do what the parent may.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => exit(worker(name, round, time, folder)),
            Ok(ForkResult::Parent { child }) => workers.push((name, child)),
            Err(error) => return Err(format!("no process for {name}: {error}")),
        }
    }
    let mut failed = Vec::new();
    for (name, child) in workers {
        if waitpid(child, None) != Ok(WaitStatus::Exited(child, 0)) {
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}

/// Rounds until the time is over; 0 if all went well.
fn worker(name: &str, round: fn(u64, &Path) -> Result<(), String>, time: Duration, folder: &Path) -> i32 {
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < time {
        if let Err(why) = round(rounds, folder) {
            println!("linux-stress: {name}: round {rounds}: {why}");
            return 1;
        }
        rounds += 1;
    }
    println!("linux-stress: {name}: {rounds} rounds");
    0
}

/// Numbers that look random and can be had again: xorshift.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// An error in words.
fn failed(what: &str) -> impl Fn(nix::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}
