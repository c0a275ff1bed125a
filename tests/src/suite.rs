//! What a suite is made of, and how tests are chosen.

use crate::context::Context;
use anyhow::{Result, bail, ensure};
use std::{fmt, ops::AddAssign};

/// One test: something that passes, fails or is skipped, with a line of its own in the report.
pub struct Test {
    /// The suite it belongs to.
    pub suite: &'static str,
    /// Its name in the suite; its log files are named after it too.
    pub name: String,
    /// Where it runs.
    pub place: Place,
    /// What it does. An error is a failure.
    pub run: Run,
}

/// What a test does.
pub type Run = Box<dyn Fn(&Context) -> Result<Ending> + Send + Sync>;

/// Where a test runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the host, alone: it keeps all CPUs busy itself.
    Host,
    /// In a machine of its own, beside others.
    Machine,
}

/// How a test ended that didn't fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// As it should.
    Passed,
    /// Not tried, and why.
    Skipped(String),
    /// It was many tests: how many of them ended how, and what to show of those that failed.
    Counted(Tally, String),
}

/// Tests by how they ended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// As they should.
    pub passed: usize,
    /// Not as they should.
    pub failed: usize,
    /// Not tried.
    pub skipped: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
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

impl Test {
    /// A test on the host.
    pub fn host(
        suite: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Context) -> Result<Ending> + Send + Sync + 'static,
    ) -> Test {
        Test { suite, name: name.into(), place: Place::Host, run: Box::new(run) }
    }

    /// A test in a machine.
    pub fn machine(
        suite: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Context) -> Result<Ending> + Send + Sync + 'static,
    ) -> Test {
        Test { suite, name: name.into(), place: Place::Machine, run: Box::new(run) }
    }

    /// `suite/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }
}

/// Those of `tests` in the named suites, all if none is named, and with `only` in their name if that is given.
///
/// # Errors
/// When a suite doesn't exist, or no test is left.
pub fn choose(mut tests: Vec<Test>, suites: &[String], only: Option<&str>) -> Result<Vec<Test>> {
    let mut known: Vec<_> = tests.iter().map(|test| test.suite).collect();
    known.dedup();
    if let Some(unknown) = suites.iter().find(|suite| !known.contains(&suite.as_str())) {
        bail!("there is no suite '{unknown}'; the suites are {}", known.join(", "));
    }
    tests.retain(|test| suites.is_empty() || suites.iter().any(|suite| suite == test.suite));
    if let Some(part) = only {
        tests.retain(|test| test.full_name().contains(part));
        ensure!(!tests.is_empty(), "no test has '{part}' in its name; --list shows the names");
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(suites: &[&str], only: Option<&str>) -> Result<Vec<String>> {
        let test = |suite, name: &str| Test::host(suite, name, |_| Ok(Ending::Passed));
        let tests = vec![test("boot", "bios-pc"), test("boot", "uefi-pc"), test("crash", "stack")];
        let suites: Vec<_> = suites.iter().map(ToString::to_string).collect();
        Ok(choose(tests, &suites, only)?.iter().map(Test::full_name).collect())
    }

    #[test]
    fn suites_and_parts_of_names() {
        assert_eq!(chosen(&[], None).unwrap().len(), 3);
        assert_eq!(chosen(&["boot"], None).unwrap(), ["boot/bios-pc", "boot/uefi-pc"]);
        assert_eq!(chosen(&["boot"], Some("uefi")).unwrap(), ["boot/uefi-pc"]);
        assert_eq!(chosen(&[], Some("crash/")).unwrap(), ["crash/stack"]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = chosen(&["boot", "boto"], None).unwrap_err().to_string();
        assert_eq!(error, "there is no suite 'boto'; the suites are boot, crash");
        let error = chosen(&["boot"], Some("arm")).unwrap_err().to_string();
        assert_eq!(error, "no test has 'arm' in its name; --list shows the names");
    }

    #[test]
    fn the_closing_line() {
        let mut tally = Tally { passed: 1, failed: 0, skipped: 2 };
        tally += Tally { passed: 3, failed: 1, skipped: 0 };
        assert_eq!(tally.to_string(), "4 passed, 1 failed, 2 skipped");
    }
}
