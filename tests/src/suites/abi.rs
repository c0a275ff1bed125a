//! Suite `abi`: what the hypercalls, traps and privileged instructions of the ABI do, one story of the self-test on
//! each boot.

use crate::{
    context::Context,
    guest::Verdict,
    suite::Test,
    telling::{self, Shape},
};
use anyhow::Result;

/// The suite, and that of its stories.
pub const SUITE: &str = "abi";

/// One test for each story.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    telling::tests(SUITE, verdict)
}

/// How `story` ends on Pavise.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || telling::tell(SUITE, story, Shape::SINGLE, context))
}
