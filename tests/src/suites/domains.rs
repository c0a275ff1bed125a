//! Suite `domains`: the control domain creates, builds, watches and ends others. Its ramdisk is the self-test's own ELF
//! file: the kernel of its children.

use crate::{
    context::{Context, log_file},
    guest::{Outcome, Verdict, stories},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
    suites::shares,
    telling::{self, Shape},
};
use anyhow::{Result, bail};
use xtask::{
    archive, build,
    machine::{Domain, Machine, Memory, Ramdisk},
    qemu::COUNTING_CPU,
};

/// The suite, and that of its stories.
const SUITE: &str = "domains";

/// Told by a domain that has no control.
const UNPRIVILEGED: &str = "domains-unprivileged";

/// Measures shares of CPUs: on a machine whose time passes by instructions.
const MEASURED: &str = "domains-shares";

/// Memory of the machine; a hundred children have 400 MiB of it.
const MEMORY: Memory = Memory::gib(1);

/// One test for each story.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    let test = |story: String| Test::machine(SUITE, story.clone(), move |context| judge(&story, context));
    Ok(stories::of_suite(SUITE)?.into_iter().map(test).collect())
}

fn judge(story: &str, context: &Context) -> Result<Ending> {
    let verdict = if story == UNPRIVILEGED {
        telling::tell(SUITE, story, Shape::SINGLE, context)
    } else {
        with_control(story, context).unwrap_or_else(Verdict::silence)
    };
    if verdict.outcome == Outcome::Pass { Ok(Ending::Passed) } else { bail!("{verdict}") }
}

/// Tells a story in the control domain of a machine with two CPUs.
fn with_control(story: &str, context: &Context) -> Result<Verdict> {
    let built = &context.pavise()?.built;
    let teller = domain("control", "selftest", &format!("story={story}"), telling::MEMORY);
    let teller = Domain { control: true, ramdisk: Some(Ramdisk::File(build::guest("selftest"))), ..teller };
    let machine = Machine { cpus: 2, memory: MEMORY, ..machine(vec![teller]) };
    let log = log_file(&format!("{SUITE}/{story}"));
    if story == MEASURED {
        let machine = Machine { cpu: COUNTING_CPU.to_owned(), ..machine };
        let mut session = shares::boot(context, &machine, &log)?;
        let ended = session.wait_exit();
        let verdict = Verdict::find(story, &session.text());
        return Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", session.last_words())));
    }
    let archive = archive::make(&machine, built)?;
    let mut running = Running::boot(context, &machine, &archive, &log, LIMIT)?;
    let ended = running.end();
    let verdict = Verdict::find(story, &running.output());
    Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", running.last_words())))
}
