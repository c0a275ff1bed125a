//! Runs tests: those on the host one after the other, those on machines a few at a time.

use crate::{
    tally::{Outcome, Tally, report},
    workshop::Workshop,
};
use anyhow::Result;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

/// Machines that run at the same time. A QEMU keeps one or two CPUs of the host busy, however many it plays.
const MACHINES: usize = 2;

/// What a test on a machine does. An error is a failure.
pub type OnMachine = Box<dyn FnOnce(&Workshop) -> Result<Outcome> + Send>;

/// What a test on the host does.
pub type OnHost = Box<dyn FnOnce() -> Result<Outcome>>;

/// One test.
pub struct Test {
    /// The suite's name.
    pub suite: String,
    /// Its own.
    pub name: String,
    /// Where it runs, and what.
    pub place: Place,
}

/// Where a test runs.
pub enum Place {
    /// On the host, alone: it builds and uses all CPUs.
    Host(OnHost),
    /// On a machine of QEMU's, beside others.
    Machine(OnMachine),
}

impl Test {
    /// A test on the host.
    pub fn on_host(suite: &str, name: impl Into<String>, run: impl FnOnce() -> Result<Outcome> + 'static) -> Self {
        Self { suite: suite.to_owned(), name: name.into(), place: Place::Host(Box::new(run)) }
    }

    /// A test on a machine.
    pub fn on_machine(
        suite: &str,
        name: impl Into<String>,
        run: impl FnOnce(&Workshop) -> Result<Outcome> + Send + 'static,
    ) -> Self {
        Self { suite: suite.to_owned(), name: name.into(), place: Place::Machine(Box::new(run)) }
    }
}

/// Runs the tests of the host.
pub fn run_on_host(tests: Vec<Test>) -> Tally {
    let mut tally = Tally::default();
    for test in tests {
        let started = Instant::now();
        if let Place::Host(run) = test.place {
            tally.add(report(&test.suite, &test.name, &outcome(run()), started.elapsed()));
        }
    }
    tally
}

/// Runs the tests that need machines. They start in their order.
pub fn run_on_machines(tests: Vec<Test>, workshop: &Workshop) -> Tally {
    let queue = Mutex::new(VecDeque::from(tests));
    let worker = || {
        let mut tally = Tally::default();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(test) = next else { return tally };
            let started = Instant::now();
            if let Place::Machine(run) = test.place {
                tally.add(report(&test.suite, &test.name, &outcome(run(workshop)), started.elapsed()));
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..MACHINES).map(|_| scope.spawn(worker)).collect();
        let mut tally = Tally::default();
        for worker in workers {
            // A panic in a test is a mistake of the test's.
            tally.add(worker.join().unwrap_or(Tally { failed: 1, ..Tally::default() }));
        }
        tally
    })
}

fn outcome(result: Result<Outcome>) -> Outcome {
    result.unwrap_or_else(|error| Outcome::Fail(format!("{error:#}")))
}
