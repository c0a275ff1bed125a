//! Suite `grants`: grant tables, one story of the self-test on each boot; and stories of a granter and a mapper, who find each
//! other by the numbers on their command lines.

use crate::{
    context::Context,
    guest::Verdict,
    suite::Test,
    telling::{self, Shape},
    together::{Part, Together},
};
use anyhow::Result;
use xtask::machine::Memory;

/// The suite, and that of its stories.
pub const SUITE: &str = "grants";

/// One test for each story, and those with several domains.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    let mut tests = telling::tests(SUITE, verdict)?;
    for cpus in [1, 2] {
        let pair = |name: &str, first: &str, second: &str| {
            let parts = vec![Part::new(first, "peer=2"), Part::new(second, "peer=1")];
            Together { cpus, memory: Memory::mib(256), parts }.test(SUITE, format!("{name}-on-{cpus}"))
        };
        tests.push(pair("pair-grants", "pair-granter", "pair-mapper"));
        tests.push(pair("pair-granter-dies", "pair-leaver", "pair-keeper"));
        tests.push(pair("pair-mapper-dies", "pair-bereaved", "pair-holder"));
    }
    Ok(tests)
}

/// How `story` ends on Pavise.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || telling::tell(SUITE, story, Shape::SEVERAL, context))
}
