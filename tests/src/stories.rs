//! The self-test's stories, as `guest-kernel/stories.list` has them: a line `NAME SUITE` each.

use crate::ending::Ending;

/// One story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its name on the self-test's command line.
    pub name: String,
    /// The suite it belongs to.
    pub suite: String,
}

/// The suite of stories that end with the domain stopped rather than with a verdict.
pub const CRASH_SUITE: &str = "crash";

/// All stories, in the order of the list.
pub fn all() -> Vec<Story> {
    parse(include_str!("../../guest-kernel/stories.list"))
}

fn parse(list: &str) -> Vec<Story> {
    let words = list.lines().filter_map(|line| line.split_once(' '));
    words.map(|(name, suite)| Story { name: name.to_owned(), suite: suite.trim().to_owned() }).collect()
}

impl Story {
    /// Does it end as it should? For the suites of verdicts that is the verdict `pass`; for the crash suite the story
    /// says by its name in which way its domain is stopped.
    pub fn is_as_told(&self, ending: &Ending) -> bool {
        match (self.suite.as_str(), self.name.as_str()) {
            (CRASH_SUITE, "shutdown-poweroff") => *ending == Ending::Stopped("power-off"),
            (CRASH_SUITE, "shutdown-reboot") => *ending == Ending::Stopped("reboot"),
            (CRASH_SUITE, "shutdown-watchdog") => *ending == Ending::Stopped("watchdog"),
            (CRASH_SUITE, "shutdown-crash" | "crash-panic") => *ending == Ending::Stopped("crash"),
            (CRASH_SUITE, _) => matches!(ending, Ending::Crashed(_)),
            _ => matches!(ending, Ending::Pass),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let story = |name: &str, suite: &str| Story { name: name.to_owned(), suite: suite.to_owned() };
        assert_eq!(parse("one abi\ntwo crash\n\n"), [story("one", "abi"), story("two", "crash")]);
        let stories = all();
        assert!(stories.len() > 10);
        for suite in ["abi", CRASH_SUITE] {
            assert!(stories.iter().any(|story| story.suite == suite));
        }
    }

    #[test]
    fn endings_are_judged_by_suite() {
        let story = |name: &str, suite: &str| Story { name: name.to_owned(), suite: suite.to_owned() };
        assert!(story("tsc", "abi").is_as_told(&Ending::Pass));
        assert!(!story("tsc", "abi").is_as_told(&Ending::Crashed("why".to_owned())));
        assert!(story("crash-x", CRASH_SUITE).is_as_told(&Ending::Crashed("why".to_owned())));
        assert!(!story("crash-x", CRASH_SUITE).is_as_told(&Ending::Stopped("power-off")));
        assert!(story("shutdown-reboot", CRASH_SUITE).is_as_told(&Ending::Stopped("reboot")));
    }
}
