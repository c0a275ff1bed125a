//! Counting, and the median of several rounds.

use std::arch::x86_64::_rdtsc;

/// Rounds of each row. The first ones warm caches of the kernel's allocators; the median leaves them out.
const ROUNDS: usize = 7;

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

/// The median of the rounds of a row.
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
