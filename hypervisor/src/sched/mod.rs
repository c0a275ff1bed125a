//! Who runs next, on which CPU, and for how long.
//!
//! A [`RunQueue`] owns the vCPUs of one CPU that are not running; the one that runs is owned by its CPU. So a vCPU can't be
//! on two CPUs: there is only one of it to hand out. All times are system time in nanoseconds and are arguments.
//!
//! **Shares.** Each vCPU has a virtual time, which passes while it runs, the slower the more it weighs ([`VTime`]). The one
//! that is the furthest behind runs. A vCPU weighs what its domain does, divided by the vCPUs of the domain that want to run
//! ([`Share`]): so domains get CPU time by weight, however many vCPUs they have.
//!
//! **Latency.** Slices are so short that each waiting vCPU has a turn in a [`ROUND`]. One that wakes is put a little before
//! those that did not sleep, and takes the CPU from one that is ahead of it. One that has waited for [`PATIENCE`] goes first.
//!
//! **Several CPUs.** Each CPU posts on the [`Board`] how far behind the first vCPU is that waits there. A CPU takes one from
//! another CPU if it has nothing to do, or if that one is far behind its own: then it gets too little where it is. A vCPU
//! that wakes goes to an idle CPU if its own is busy. A CPU that runs one vCPU, with none waiting, sets no timer; those that
//! have too much to do kick it.
//!
//! **No competition, no debts.** Virtual times mean something among vCPUs that compete. What a vCPU had while nobody waited,
//! or did not get because it slept, is forgotten beyond [`LAG`] and [`LEAD`].
//!
//! `simulator` runs all this on virtual time: `./x bench sched` prints what comes out.
#![forbid(unsafe_code)]

mod account;
mod board;
mod queue;
mod share;
#[cfg(test)]
mod simulator;
mod vtime;

pub use account::Account;
pub use board::Board;
pub use queue::{Entity, RunQueue, Woken};
pub use share::Share;
pub use vtime::VTime;

const MS: u64 = 1_000_000;

/// In about this time each vCPU that waits for a CPU has a turn, in nanoseconds.
const ROUND: u64 = 60 * MS;

/// How long one vCPU runs at most and at least while others wait.
const MOST_SLICE: u64 = 10 * MS;
const LEAST_SLICE: u64 = MS;

/// A vCPU that was put on a CPU runs at least this long before one that wakes takes it.
const LEAST_RUN: u64 = MS / 2;

/// A vCPU that wakes is put at most so far before those that didn't sleep.
const BONUS: u64 = 20 * MS;

/// A vCPU that wakes takes the CPU at once if it is so far behind the one that runs.
const WAKE_MARGIN: u64 = MS;

/// A waiting vCPU is moved to another CPU if it is so far behind those there.
const MARGIN: u64 = 75 * MS;

/// A vCPU that has waited for so long goes first, for a short slice.
const PATIENCE: u64 = 75 * MS;

/// If more vCPUs than this wait, that would leave nothing to share by weight: then it goes first only if its turn by weight,
/// with the least slices, is past too.
const CROWD: usize = 24;
const TURN: u64 = LEAST_SLICE + LEAST_SLICE / 4;

/// No vCPU is owed more than this by those it competes with, or owes them more.
const LAG: u64 = 400 * MS;
const LEAD: u64 = 400 * MS;
