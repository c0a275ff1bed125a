//! The suites, a file each.

mod boot;
mod differences;
mod host;
mod lint;
mod oracle;
mod prompt;
mod refused;
mod story;

use crate::{
    run::Test,
    stories::{self, CRASH_SUITE},
};

/// All tests of all suites. `full` has the whole boot matrix.
pub fn all(full: bool) -> Vec<Test> {
    let stories = stories::all();
    let mut tests = lint::tests();
    tests.extend(host::tests());
    tests.extend(boot::tests(full));
    tests.extend(refused::tests());
    let (crash, verdict): (Vec<_>, Vec<_>) = stories.iter().cloned().partition(|story| story.suite == CRASH_SUITE);
    tests.extend(crash.into_iter().map(story::crash_test));
    tests.extend(verdict.into_iter().map(story::verdict_test));
    tests.extend(oracle::tests(stories));
    tests
}

/// The suites' names, in the order in which they run.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for test in all(false) {
        if !names.contains(&test.suite) {
            names.push(test.suite);
        }
    }
    names
}
