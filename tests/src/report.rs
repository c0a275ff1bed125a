//! Runs tests and says how they ended: a line for each, then the closing line.

use crate::{
    context::Context,
    suite::{Ending, Place, Tally, Test},
};
use anyhow::{Result, anyhow};
use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Runs `tests`, those for the host first and one by one, then those in machines, `jobs` at a time.
pub fn run(tests: Vec<Test>, context: &Context, jobs: NonZeroUsize) -> Tally {
    let (host, machine): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|test| test.place == Place::Host);
    let mut tally = Tally::default();
    for test in host {
        tally += run_one(&test, context);
    }
    if !machine.is_empty() {
        tally += match context.pavise() {
            Ok(_) => run_side_by_side(machine, context, jobs),
            Err(error) => {
                print(&format!("FAIL  build\n{}", indented(&format!("{error:#}"))));
                print(&format!("SKIP  {} tests in machines: there is nothing to boot", machine.len()));
                Tally { passed: 0, failed: 1, skipped: machine.len() }
            }
        };
    }
    tally
}

fn run_side_by_side(tests: Vec<Test>, context: &Context, jobs: NonZeroUsize) -> Tally {
    let queue = Mutex::new(VecDeque::from(tests));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut tally = Tally::default();
        while let Some(test) = next() {
            tally += run_one(&test, context);
        }
        tally
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            total += worker.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
        }
    });
    total
}

fn run_one(test: &Test, context: &Context) -> Tally {
    let started = Instant::now();
    // A panic must not take the counts of the tests before it along.
    let result = panic::catch_unwind(AssertUnwindSafe(|| (test.run)(context)))
        .unwrap_or_else(|_| Err(anyhow!("the test itself panicked")));
    print(&line(&test.full_name(), &result, started.elapsed()));
    match result {
        Ok(Ending::Passed) => Tally { passed: 1, ..Tally::default() },
        Ok(Ending::Skipped(_)) => Tally { skipped: 1, ..Tally::default() },
        Ok(Ending::Counted(tally, _)) => tally,
        Err(_) => Tally { failed: 1, ..Tally::default() },
    }
}

fn line(name: &str, result: &Result<Ending>, time: Duration) -> String {
    let time = format!("{:.1} s", time.as_secs_f64());
    match result {
        Ok(Ending::Passed) => format!("pass  {name} ({time})"),
        Ok(Ending::Skipped(reason)) => format!("SKIP  {name}: {reason}"),
        Ok(Ending::Counted(tally, _)) if tally.failed == 0 => format!("pass  {name}: {tally} ({time})"),
        Ok(Ending::Counted(tally, details)) => format!("FAIL  {name}: {tally} ({time})\n{}", indented(details)),
        Err(error) => format!("FAIL  {name} ({time})\n{}", indented(&format!("{error:#}"))),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

/// One call per test, so that those of tests side by side don't mix.
fn print(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(1250);

    #[test]
    fn each_ending_has_its_line() {
        let tally = Tally { passed: 2, failed: 0, skipped: 1 };
        let bad = Tally { failed: 1, ..tally };
        for (result, expected) in [
            (Ok(Ending::Passed), "pass  s/t (1.2 s)"),
            (Ok(Ending::Skipped("no network".to_owned())), "SKIP  s/t: no network"),
            (Ok(Ending::Counted(tally, String::new())), "pass  s/t: 2 passed, 0 failed, 1 skipped (1.2 s)"),
            (Ok(Ending::Counted(bad, "x".to_owned())), "FAIL  s/t: 2 passed, 1 failed, 1 skipped (1.2 s)\n      x"),
            (Err(anyhow!("a\nb").context("c")), "FAIL  s/t (1.2 s)\n      c: a\n      b"),
        ] {
            assert_eq!(line("s/t", &result, TIME), expected);
        }
    }

    #[test]
    fn counts_what_ran_and_keeps_host_tests_in_order() {
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let tests = (0..5).map(|n| {
            let order = order.clone();
            Test::host("s", n.to_string(), move |_| {
                order.lock().unwrap().push(n);
                match n {
                    0 => Ok(Ending::Passed),
                    1 => Ok(Ending::Skipped(String::new())),
                    2 => Ok(Ending::Counted(Tally { passed: 5, failed: 0, skipped: 0 }, String::new())),
                    3 => panic!("on purpose"),
                    _ => Err(anyhow!("no")),
                }
            })
        });
        let tally = run(tests.collect(), &Context::default(), NonZeroUsize::MIN);
        assert_eq!(tally, Tally { passed: 6, failed: 2, skipped: 1 });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn machines_run_side_by_side() {
        let tests = (0..9).map(|n| Test::machine("s", n.to_string(), |_| Ok(Ending::Passed)));
        let tally = run_side_by_side(tests.collect(), &Context::default(), NonZeroUsize::new(3).unwrap());
        assert_eq!(tally.passed, 9);
    }
}
