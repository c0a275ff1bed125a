//! Telling stories of the self-test on Pavise, one in each machine.

use crate::{
    context::{Context, log_file},
    differences,
    guest::{Outcome, Verdict, stories},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Result, bail};
use xtask::{
    archive,
    machine::{Machine, Memory},
};

/// Stories that a CPU with SMAP spoils: QEMU before 9 uses the stack for `iret` and far calls in ring 3 with the rights
/// of ring 0.
const WITHOUT_SMAP: [&str; 2] = ["iret-native", "attack-gates"];

/// Memory of the domain that tells a story.
pub const MEMORY: Memory = Memory::mib(64);

/// How a story of a suite ends on Pavise. It is told once in a run, whichever suite asks.
pub type Tell = fn(&str, &Context) -> Verdict;

/// The CPU that a story is told on, here and on Xen.
pub fn cpu(story: &str) -> &'static str {
    if WITHOUT_SMAP.contains(&story) { "max,-smap" } else { "max" }
}

/// One test for each story of a suite.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests(suite: &'static str, tell: Tell) -> Result<Vec<Test>> {
    let stories = stories::of_suite(suite)?;
    let test =
        |story: String| Test::machine(suite, story.clone(), move |context| judge(&story, &tell(&story, context)));
    Ok(stories.into_iter().map(test).collect())
}

fn judge(story: &str, verdict: &Verdict) -> Result<Ending> {
    match verdict.outcome {
        Outcome::Pass => Ok(Ending::Passed),
        Outcome::Skip => Ok(Ending::Skipped(verdict.text.clone())),
        Outcome::Fail | Outcome::Silence => match differences::of_story(story)? {
            Some(row) if row.pavise.contains(&verdict.outcome) => {
                Ok(Ending::Skipped(format!("accepted: {}", row.reason)))
            }
            _ => bail!("{verdict}"),
        },
    }
}

/// Tells a story on a machine that has no other domain.
pub fn alone(suite: &str, story: &str, context: &Context) -> Verdict {
    let tell = || -> Result<Verdict> {
        let teller = domain("selftest", "selftest", &format!("story={story}"), MEMORY);
        let machine = Machine { cpu: cpu(story).to_owned(), ..machine(vec![teller]) };
        let archive = archive::make(&machine, &context.pavise()?.built)?;
        let log = log_file(&format!("{suite}/{story}"));
        let mut running = Running::boot(context, &machine, &archive, &log, LIMIT)?;
        let ended = running.end();
        let verdict = Verdict::find(story, &running.output());
        Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", running.last_words())))
    };
    tell().unwrap_or_else(Verdict::silence)
}
