//! Telling stories of the self-test on Pavise, one in each machine: alone, or beside a neighbour that checks its memory.

use crate::{
    context::{Context, log_file},
    differences,
    guest::{Outcome, Verdict, stories},
    pattern::{logged, said_by},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Result, bail};
use xtask::{
    archive,
    machine::{Domain, Emulator, Machine, Memory},
};

/// The story that a CPU with SMAP spoils: QEMU before 9 uses the stack for far calls in ring 3 with the rights of ring 0.
const WITHOUT_SMAP: &str = "attack-gates";

/// Memory of the domain that tells a story.
pub const MEMORY: Memory = Memory::mib(64);

/// The neighbour's story and name.
const NEIGHBOUR: &str = "neighbour";
const ATTACKER: &str = "attacker";

/// How many vCPUs the teller has, and how many CPUs the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The teller's vCPUs.
    pub vcpus: u32,
    /// The machine's CPUs.
    pub cpus: u32,
}

impl Shape {
    /// One of each.
    pub const SINGLE: Shape = Shape { vcpus: 1, cpus: 1 };
    /// For stories about several vCPUs: more than there are CPUs.
    pub const SEVERAL: Shape = Shape { vcpus: 4, cpus: 2 };
}

/// How a story of a suite ends on Pavise. It is told once in a run, whichever suite asks.
pub type Tell = fn(&str, &Context) -> Verdict;

/// The CPU that a story is told on.
fn cpu(template: &Machine, story: &str) -> String {
    let spoilt = template.emulator == Emulator::Qemu && story == WITHOUT_SMAP;
    template.cpu.clone() + if spoilt { ",-smap" } else { "" }
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

/// What a verdict makes of the test.
///
/// # Errors
/// When the story failed, and not as the table of differences has it.
pub fn judge(story: &str, verdict: &Verdict) -> Result<Ending> {
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

/// Tells a story. Those named `attack-` try to break out of the domain; beside them runs a neighbour that checks its
/// memory all the time, and whose verdict counts as much as the attacker's.
pub fn tell(suite: &str, story: &str, shape: Shape, context: &Context) -> Verdict {
    tell_on(&machine(Vec::new()), suite, story, shape, context)
}

/// The same on a machine that is else like this one.
pub fn tell_on(template: &Machine, suite: &str, story: &str, shape: Shape, context: &Context) -> Verdict {
    let told = if story.starts_with("attack-") {
        beside_a_neighbour(template, suite, story, shape, context)
    } else {
        alone(template, suite, story, shape, context)
    };
    told.unwrap_or_else(Verdict::silence)
}

fn teller(name: &str, command_line: &str, shape: Shape) -> Domain {
    Domain { vcpus: shape.vcpus, ..domain(name, "selftest", command_line, MEMORY) }
}

/// Tells a story on a machine that has no other domain.
fn alone(template: &Machine, suite: &str, story: &str, shape: Shape, context: &Context) -> Result<Verdict> {
    let teller = teller("selftest", &format!("story={story}"), shape);
    let (cpu, domains) = (cpu(template, story), vec![teller]);
    let machine = Machine { cpu, cpus: shape.cpus, domains, ..template.clone() };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let log = log_file(&format!("{suite}/{}", name(story, shape)));
    let mut running = Running::boot(context, &machine, &archive, &log, LIMIT)?;
    let ended = running.end();
    let verdict = Verdict::find(story, &running.output());
    Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", running.last_words())))
}

/// The name of a test of a story in a shape that isn't the suite's own.
pub fn name(story: &str, shape: Shape) -> String {
    match shape {
        Shape::SINGLE | Shape::SEVERAL => story.to_owned(),
        Shape { vcpus, cpus } => format!("{story}-{vcpus}-on-{cpus}"),
    }
}

/// Tells a story while another domain checks its memory. The attacker has the keyboard and begins at a key, when the
/// neighbour is ready. When it is gone the neighbour gets the keyboard, checks once more at a key, and has the last word.
fn beside_a_neighbour(
    template: &Machine,
    suite: &str,
    story: &str,
    shape: Shape,
    context: &Context,
) -> Result<Verdict> {
    let domains = vec![
        teller(ATTACKER, &format!("story={story} start=key"), shape),
        domain(NEIGHBOUR, "selftest", &format!("story={NEIGHBOUR}"), Memory::mib(16)),
    ];
    let machine = Machine { cpu: cpu(template, story), cpus: 2, domains, ..template.clone() };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let log = log_file(&format!("{suite}/{story}"));
    let mut running = Running::boot(context, &machine, &archive, &log, LIMIT)?;
    running.expect(&[said_by(NEIGHBOUR, "checking .*")])?;
    running.type_keys("\r")?;
    running.expect(&[logged("keys now go to d2")])?;
    running.type_keys("\r")?;
    running.expect(&[said_by(NEIGHBOUR, "VERDICT .*")])?;
    running.end();
    let output = running.output();
    let neighbour = Verdict::find(NEIGHBOUR, &lines_of(NEIGHBOUR, &output));
    if neighbour.outcome != Outcome::Pass {
        return Ok(Verdict { outcome: Outcome::Fail, text: format!("the neighbour: {neighbour}") });
    }
    Ok(Verdict::find(story, &lines_of(ATTACKER, &output)).explained(|| running.last_words()))
}

/// What a domain said.
pub fn lines_of(domain: &str, output: &str) -> String {
    let mark = format!("({domain}) ");
    output.lines().filter(|line| line.starts_with(&mark)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_has_its_own_verdict() {
        let output =
            "(neighbour) round 3\n(attacker) VERDICT attack-x pass\n(neighbour) VERDICT neighbour fail word 5\n";
        assert_eq!(Verdict::find("attack-x", &lines_of(ATTACKER, output)).outcome, Outcome::Pass);
        assert_eq!(Verdict::find(NEIGHBOUR, &lines_of(NEIGHBOUR, output)).outcome, Outcome::Fail);
    }

    #[test]
    fn shapes_have_names() {
        assert_eq!(name("smp-start", Shape::SEVERAL), "smp-start");
        assert_eq!(name("smp-start", Shape { vcpus: 4, cpus: 1 }), "smp-start-4-on-1");
    }
}
