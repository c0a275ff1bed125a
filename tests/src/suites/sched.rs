//! Suite `sched`: several vCPUs, their timers and their registers, one story of the self-test on each boot. Some are told
//! in other shapes too.

use crate::{
    context::Context,
    guest::Verdict,
    suite::Test,
    telling::{self, Shape, judge, name},
};
use anyhow::Result;

/// The suite, and that of its stories.
pub const SUITE: &str = "sched";

/// Stories in which it matters most how many vCPUs and CPUs there are.
const SHAPED: [&str; 13] = [
    "smp-all-to-all",
    "smp-ping-pong",
    "smp-yielding-lock",
    "smp-kicked-lock",
    "smp-shootdown",
    "smp-down-from-outside",
    "smp-fpu-avx",
    "time-monotonic",
    "time-sleepers",
    "threads-many",
    "threads-ping-pong",
    "threads-lock",
    "threads-handlers",
];

/// vCPUs and CPUs for them.
const SHAPES: [(u32, u32); 5] = [(2, 1), (4, 1), (2, 2), (2, 4), (4, 4)];

/// One test for each story, and for the shaped ones one more in each shape: with `full` in all of them, else in two.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests(full: bool) -> Result<Vec<Test>> {
    let mut tests = telling::tests(SUITE, verdict)?;
    let shapes = SHAPES.into_iter().filter(|shape| full || matches!(shape, (4, 1 | 4)));
    for (vcpus, cpus) in shapes {
        let shape = Shape { vcpus, cpus };
        tests.extend(SHAPED.map(|story| {
            Test::machine(SUITE, name(story, shape), move |context| {
                judge(story, &telling::tell(SUITE, story, shape, context))
            })
        }));
    }
    Ok(tests)
}

/// How `story` ends on Pavise.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || telling::tell(SUITE, story, Shape::SEVERAL, context))
}
