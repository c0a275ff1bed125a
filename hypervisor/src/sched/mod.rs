//! Who runs next on one CPU: round robin with a time slice, and sleepers with deadlines.
//!
//! A [`RunQueue`] owns the vCPUs that are not running; the one that runs is owned by its CPU. So a vCPU can't be on two
//! CPUs: there is only one of it to hand out. All times are system time in nanoseconds and are arguments.
#![forbid(unsafe_code)]

pub mod account;
pub mod board;
pub mod queue;
pub mod share;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
pub mod vtime;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

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
const MARGIN: u64 = 50 * MS;

/// A vCPU that has waited for so long goes first, for a short slice.
const PATIENCE: u64 = 75 * MS;

/// No vCPU is owed more than this by those it competes with, or owes them more.
const LAG: u64 = 200 * MS;
const LEAD: u64 = 300 * MS;

/// How long a vCPU runs while others wait, in nanoseconds.
pub const SLICE: u64 = 10_000_000;

/// How a run queue tells its entries apart.
pub trait Entity {
    /// What names it.
    type Key: PartialEq + Copy;

    /// Its name.
    fn key(&self) -> Self::Key;
}

/// The vCPUs of one CPU that do not run.
pub struct RunQueue<T> {
    ready: VecDeque<T>,
    asleep: Vec<Sleeper<T>>,
}

struct Sleeper<T> {
    entity: T,
    until: Option<u64>,
}

impl<T> RunQueue<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        RunQueue { ready: VecDeque::new(), asleep: Vec::new() }
    }
}

impl<T> Default for RunQueue<T> {
    fn default() -> Self {
        RunQueue::new()
    }
}

impl<T: Entity> RunQueue<T> {
    /// Makes room for `entities` vCPUs, so that no later call needs memory.
    pub fn reserve(&mut self, entities: usize) {
        self.ready.reserve(entities.saturating_sub(self.ready.len()));
        self.asleep.reserve(entities.saturating_sub(self.asleep.len()));
    }

    /// Puts a vCPU behind all that are ready.
    pub fn push(&mut self, entity: T) {
        self.ready.push_back(entity);
    }

    /// Takes the vCPU that has been ready longest.
    pub fn pick(&mut self) -> Option<T> {
        self.ready.pop_front()
    }

    /// Puts a vCPU to sleep until it is woken or `until` has come.
    pub fn sleep(&mut self, entity: T, until: Option<u64>) {
        self.asleep.push(Sleeper { entity, until });
    }

    /// Makes a sleeper ready. False if it doesn't sleep here.
    pub fn wake(&mut self, key: T::Key) -> bool {
        let Some(index) = self.asleep.iter().position(|sleeper| sleeper.entity.key() == key) else { return false };
        let sleeper = self.asleep.swap_remove(index);
        self.ready.push_back(sleeper.entity);
        true
    }

    /// Makes ready all whose time has come, and tells of each.
    pub fn expire(&mut self, now: u64, woken: impl Fn(&T)) {
        let mut index = 0;
        while let Some(sleeper) = self.asleep.get(index) {
            if sleeper.until.is_some_and(|until| until <= now) {
                let sleeper = self.asleep.swap_remove(index);
                woken(&sleeper.entity);
                self.ready.push_back(sleeper.entity);
            } else {
                index += 1;
            }
        }
    }

    /// The first deadline of a sleeper.
    pub fn next_deadline(&self) -> Option<u64> {
        self.asleep.iter().filter_map(|sleeper| sleeper.until).min()
    }

    /// Is a vCPU waiting for the CPU?
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes out every vCPU, ready or asleep, for which `gone` holds; at most one per call.
    pub fn remove(&mut self, gone: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(index) = self.ready.iter().position(&gone) {
            return self.ready.remove(index);
        }
        let index = self.asleep.iter().position(|sleeper| gone(&sleeper.entity))?;
        Some(self.asleep.swap_remove(index).entity)
    }
}
