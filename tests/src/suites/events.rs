//! Suite `events`: event channels, one story of the self-test on each boot; and stories of two and more domains, who
//! find each other by the numbers on their command lines.

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
pub const SUITE: &str = "events";

/// Domains in the ring that goes once around the machine.
const CROWD: u32 = 100;

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
        tests.push(pair("pair-ping-pong", "pair-ping", "pair-pong"));
        tests.push(pair("pair-storm", "pair-latency", "pair-storm"));
        tests.push(pair("pair-peer-dies", "pair-survivor", "pair-goner"));
    }
    tests.push(crowd().test(SUITE, "crowd".to_owned()));
    Ok(tests)
}

/// Domains of 5 MiB in a ring. An event goes around only when all of them run.
fn crowd() -> Together {
    let part = |id: u32| {
        let (before, after) = ((id + CROWD - 2) % CROWD + 1, id % CROWD + 1);
        Part { memory: Memory::mib(5), ..Part::new("pair-ring", &format!("before={before} after={after} me={id}")) }
    };
    Together { cpus: 2, memory: Memory::gib(1), parts: (1..=CROWD).map(part).collect() }
}

/// How `story` ends on Pavise.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || telling::tell(SUITE, story, Shape::SEVERAL, context))
}
