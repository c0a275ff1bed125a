//! Outcomes, their line of text, and their sum.

use std::{fmt, time::Duration};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Pass,
    /// Otherwise; the text says how.
    Fail(String),
    /// It was not run; the text says why.
    Skip(String),
    /// It was a run of many tests.
    Many {
        /// Their sum.
        tally: Tally,
        /// What failed, if anything did.
        failures: String,
    },
}

/// Numbers of tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// As they should.
    pub passed: usize,
    /// Otherwise.
    pub failed: usize,
    /// Not run.
    pub skipped: usize,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Prints the line of a test that has ended, and returns what it counts.
pub fn report(suite: &str, name: &str, outcome: &Outcome, took: Duration) -> Tally {
    let one = |passed, failed, skipped| Tally { passed, failed, skipped };
    let (tally, word, text) = match outcome {
        Outcome::Pass => (one(1, 0, 0), "pass".to_owned(), ""),
        Outcome::Fail(text) => (one(0, 1, 0), "FAIL".to_owned(), text.as_str()),
        Outcome::Skip(text) => (one(0, 0, 1), "skip".to_owned(), text.as_str()),
        Outcome::Many { tally, failures } => (*tally, tally.to_string(), failures.as_str()),
    };
    let text = text.trim_end().replace('\n', "\n      ");
    let separator = if text.is_empty() { "" } else { ": " };
    // One call, so that lines of tests that run side by side don't mix.
    println!("{suite:<8}{name:<44}{:>6.1} s  {word}{separator}{text}", took.as_secs_f64());
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_plain() {
        let mut tally = report("suite", "name", &Outcome::Pass, Duration::ZERO);
        tally.add(report("suite", "name", &Outcome::Fail("why".into()), Duration::ZERO));
        tally.add(report("suite", "name", &Outcome::Skip("why".into()), Duration::ZERO));
        tally.add(Tally { passed: 10, failed: 0, skipped: 0 });
        assert_eq!(tally.to_string(), "11 passed, 1 failed, 1 skipped");
    }
}
