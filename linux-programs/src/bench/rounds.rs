//! Counting, and what the counts of several rounds and processes become.

use std::arch::x86_64::_rdtsc;
use std::process::Command;

/// The argument, before a row's name, of a process that says what it finds for that row.
pub const ROW: &str = "row";

/// Rounds of each row in a process. The first one warms caches of the kernel's allocators; the median leaves it out, and a
/// timer tick.
const ROUNDS: usize = 3;

/// Processes for each row. The kernel puts each at other addresses, so that one has more page tables than another, and costs
/// more to copy.
const PROCESSES: u64 = 8;

/// Something that is counted.
pub struct Row {
    /// What it is called.
    pub name: &'static str,
    /// Does it some times, and returns the instructions for one.
    pub run: fn() -> nix::Result<u64>,
}

/// The TSC: the instructions that the machine has executed.
fn now() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and it does nothing but read a counter.
    unsafe { _rdtsc() }
}

/// Runs `operation` some times in a row; instructions for each.
pub fn each(times: u64, mut operation: impl FnMut()) -> u64 {
    let begin = now();
    for _ in 0..times {
        operation();
    }
    (now() - begin) / times
}

/// The median of the rounds of a row, in this process.
///
/// # Errors
/// The first that a round has.
pub fn median(row: &Row) -> nix::Result<u64> {
    let mut counts = [0; ROUNDS];
    for count in &mut counts {
        *count = (row.run)()?;
    }
    counts.sort_unstable();
    Ok(counts[ROUNDS / 2])
}

/// The mean of the medians that some new processes find.
///
/// # Errors
/// What one says instead.
pub fn mean(row: &Row) -> Result<u64, String> {
    let counts = (0..PROCESSES).map(|_| {
        let output =
            Command::new("/proc/self/exe").args([ROW, row.name]).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse::<u64>().map_err(|_| said.trim().to_owned())
    });
    Ok(counts.sum::<Result<u64, String>>()? / PROCESSES)
}
