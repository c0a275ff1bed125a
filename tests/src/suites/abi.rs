//! Suite `abi`: what the hypercalls, traps and privileged instructions of the ABI do, one story of the self-test on
//! each boot.

use crate::{
    context::{Context, log_file},
    differences,
    guest::{Outcome, Verdict, stories},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Result, bail};
use xtask::{archive, machine::Machine, machine::Memory};

/// The suite, and that of its stories.
pub const SUITE: &str = "abi";

/// Stories that a CPU with SMAP spoils: QEMU before 9 reads the frame of an `iret` in ring 3 with the rights of ring 0.
const WITHOUT_SMAP: [&str; 1] = ["iret-native"];

/// The CPU that a story is told on, here and on Xen.
pub fn cpu(story: &str) -> &'static str {
    if WITHOUT_SMAP.contains(&story) { "max,-smap" } else { "max" }
}

/// One test for each story.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    let stories = stories::of_suite(SUITE)?;
    Ok(stories
        .into_iter()
        .map(|story| Test::machine(SUITE, story.clone(), move |context| test(&story, context)))
        .collect())
}

fn test(story: &str, context: &Context) -> Result<Ending> {
    let verdict = verdict(story, context);
    match verdict.outcome {
        Outcome::Pass => Ok(Ending::Passed),
        Outcome::Skip => Ok(Ending::Skipped(verdict.text)),
        Outcome::Fail | Outcome::Silence => match differences::of_story(story)? {
            Some(row) if row.pavise.contains(&verdict.outcome) => {
                Ok(Ending::Skipped(format!("accepted: {}", row.reason)))
            }
            _ => bail!("{verdict}"),
        },
    }
}

/// How `story` ends on Pavise. It is told once in a run, whichever suite asks.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || tell(story, context).unwrap_or_else(Verdict::silence))
}

fn tell(story: &str, context: &Context) -> Result<Verdict> {
    let teller = domain("selftest", "selftest", &format!("story={story}"), Memory::mib(64));
    let machine = Machine { cpu: cpu(story).to_owned(), ..machine(vec![teller]) };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let log = log_file(&format!("{SUITE}/{story}"));
    let mut running = Running::boot(context, &machine, &archive, &log, LIMIT)?;
    let ended = running.end();
    let verdict = Verdict::find(story, &running.output());
    Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", running.last_words())))
}
