//! What `cargo test` prints, counted. Pure.

use crate::suite::Tally;

/// The results of one `cargo test`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Results {
    /// How many tests ended how, over all of its test programs.
    pub tally: Tally,
    /// The tests that failed, by name.
    pub failed: Vec<String>,
}

/// Counts the results in the output of `cargo test`. A run that failed without one failed test, because something
/// didn't compile or a test program died, counts as one failed test.
pub fn count(output: &str, succeeded: bool) -> Results {
    let mut results = Results::default();
    for line in output.lines() {
        if let Some(tally) = summary(line) {
            results.tally += tally;
        } else if let Some(name) = failed_test(line) {
            results.failed.push(name.to_owned());
        }
    }
    if !succeeded && results.tally.failed == 0 {
        results.tally.failed = 1;
    }
    results
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn summary(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let mut counts = counts.split(';').map(str::trim);
        counts.find_map(|count| count.strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// `test addr::tests::wraps ... FAILED`
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_test_programs() {
        let output = "running 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s\n\
            test result: ok. 10 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.01s\n";
        let results = count(output, false);
        assert_eq!(results.tally, Tally { passed: 11, failed: 1, skipped: 2 });
        assert_eq!(results.failed, ["a::c"]);
    }

    #[test]
    fn a_failure_without_tests_is_one() {
        assert_eq!(count("error: could not compile", false).tally, Tally { passed: 0, failed: 1, skipped: 0 });
        assert_eq!(count("", true).tally, Tally::default());
    }

    #[test]
    fn other_lines_are_not_results() {
        assert_eq!(count("test result: ok\ntest result: ok. no; numbers\n", true), Results::default());
    }
}
