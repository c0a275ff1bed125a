//! The list of the self-test's stories, `guest-kernel/stories.list`: a name and a suite on each line.

use anyhow::{Context, Result};
use std::fs;
use xtask::paths;

/// Where the list is, from the top of the repository.
const LIST: &str = "guest-kernel/stories.list";

/// The names of the stories of a suite, in the order of the list.
///
/// # Errors
/// When the list can't be read or has a line that is no story.
pub fn of_suite(suite: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(paths::root().join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let stories = parse(&text).context(LIST)?;
    Ok(stories.into_iter().filter(|(_, of)| *of == suite).map(|(name, _)| name.to_owned()).collect())
}

/// Name and suite of each line.
fn parse(text: &str) -> Result<Vec<(&str, &str)>> {
    text.lines().map(|line| story(line).with_context(|| format!("'{line}' is not NAME SUITE"))).collect()
}

fn story(line: &str) -> Option<(&str, &str)> {
    line.split_once(' ').filter(|(name, suite)| !name.is_empty() && !suite.is_empty() && !suite.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_a_name_and_a_suite() {
        assert_eq!(
            parse(
                "poll abi
crash-iret crash
"
            )
            .unwrap(),
            [("poll", "abi"), ("crash-iret", "crash")]
        );
        assert_eq!(
            parse(
                "poll abi

"
            )
            .unwrap_err()
            .to_string(),
            "'' is not NAME SUITE"
        );
        assert!(parse("poll").is_err());
        assert!(parse("poll abi x").is_err());
    }
}
