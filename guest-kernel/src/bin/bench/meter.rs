//! Counts the instructions of operations, by the TSC.

use crate::marks;
use core::arch::asm;
use core::hint::black_box;
use guest_kernel::hypercall::answer;
use guest_kernel::probe::rdtsc;
use guest_kernel::{cmdline, start};
use pv_abi::errno::Errno;

/// How much is done for a row. More changes nothing but the chance that an interrupt spoils every batch.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Operations in a batch, at least; a call that does more of them at once counts as one batch.
    pub operations: u64,
    /// Batches. The one with the fewest instructions counts: no interrupt fell into it.
    pub batches: u64,
    /// Page tables of the rows about whole address spaces.
    pub tables: usize,
}

impl Effort {
    /// What the command line asks for.
    pub fn from_command_line() -> Effort {
        let option = |name| cmdline::option(start::command_line(), name)?.parse().ok();
        Effort {
            operations: option("operations").unwrap_or(256),
            batches: option("batches").unwrap_or(8),
            tables: option("tables").and_then(|tables| usize::try_from(tables).ok()).unwrap_or(1000),
        }
    }
}

/// A row's figure.
#[derive(Clone, Copy)]
pub struct Figure {
    /// Instructions of all operations of a batch, without the loop around them.
    pub instructions: u64,
    /// How many operations that was.
    pub operations: u64,
}

/// A figure, or what the hypervisor answered instead of doing the operation.
pub type Measured = Result<Figure, Errno>;

/// How often an operation is done before it counts.
const WARM_UP: u64 = 3;

impl Effort {
    /// Counts what `body` does, which is `each` operations; it returns a hypercall's result, or 0.
    ///
    /// # Errors
    /// When a first try fails.
    ///
    /// # Panics
    /// When an operation fails later.
    pub fn count(self, each: u64, mut body: impl FnMut() -> i64) -> Measured {
        let rounds = self.operations.div_ceil(each);
        for _ in 0..WARM_UP.min(rounds) {
            answer(body())?;
        }
        marks::begin();
        let best = (0..self.batches).map(|_| batch(rounds, &mut body)).min();
        marks::end();
        let empty = batch(rounds, || black_box(0));
        Ok(Figure { instructions: best.unwrap_or(0).saturating_sub(empty), operations: rounds * each })
    }
}

/// Counts what can't be called: what happens from one [`lap`](Laps::lap) to the next.
pub struct Laps {
    each: u64,
    /// Laps that count.
    wanted: u64,
    /// Calls of `lap` so far.
    calls: u64,
    started: u64,
    best: Option<u64>,
}

impl Effort {
    /// Counts laps of `each` operations.
    pub fn laps(self, each: u64) -> Laps {
        Laps { each, wanted: self.batches, calls: 0, started: 0, best: None }
    }
}

impl Laps {
    /// How often [`lap`](Laps::lap) wants to be called.
    pub fn needed(&self) -> u64 {
        WARM_UP + self.wanted + 1
    }

    /// A lap is over, and the next one begins.
    pub fn lap(&mut self) {
        let ticks = rdtsc() - self.started;
        if self.calls > WARM_UP {
            self.best = Some(self.best.map_or(ticks, |best| best.min(ticks)));
        }
        if self.calls == WARM_UP {
            marks::begin();
        }
        self.calls += 1;
        if self.calls == self.needed() {
            marks::end();
        }
        self.started = rdtsc();
    }

    /// The shortest lap that counts.
    ///
    /// # Errors
    /// When there have been too few.
    pub fn figure(self) -> Measured {
        let best = self.best.filter(|_| self.calls == self.needed()).ok_or(Errno::EIO)?;
        Ok(Figure { instructions: best, operations: self.each })
    }
}

/// TSC ticks of `rounds` calls of `body`.
fn batch(rounds: u64, mut body: impl FnMut() -> i64) -> u64 {
    let mut results = 0;
    let start = rdtsc();
    for _ in 0..rounds {
        results |= body();
    }
    let ticks = rdtsc() - start;
    assert!(results >= 0, "an operation failed after it had worked: results together {results:#x}");
    ticks
}

/// TSC ticks per 1000 instructions, the least of a few tries.
pub fn ticks_per_1000_instructions() -> u32 {
    let attempt = || {
        let ticks: u32;
        // SAFETY: only registers change. Between the two readings, one of them included, are 1000 instructions.
        unsafe {
            asm!(
                "rdtsc",
                "mov {start:e}, eax",
                "mov ecx, 499",
                "2:",
                "dec ecx",
                "jnz 2b",
                "rdtsc",
                "sub eax, {start:e}",
                start = out(reg) _,
                out("eax") ticks,
                out("ecx") _,
                out("edx") _,
            );
        }
        ticks
    };
    // The first try may include translating the code, or page faults; an interrupt may fall into any.
    (0..8).map(|_| attempt()).min().unwrap_or(0)
}
