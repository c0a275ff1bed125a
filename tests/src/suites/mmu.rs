//! Suite `mmu`: the calls that change page tables, descriptors and the reservation, one story of the self-test on each
//! boot. Stories named `attack-` try to break out of the domain; beside them runs a neighbour that checks its memory all
//! the time, and whose verdict counts as much as the attacker's.

use crate::{
    context::{Context, log_file},
    guest::{Outcome, Verdict},
    pattern::{logged, said_by},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::Test,
    telling::{self, MEMORY, cpu},
};
use anyhow::Result;
use xtask::{
    archive,
    machine::{Machine, Memory},
};

/// The suite, and that of its stories.
pub const SUITE: &str = "mmu";

/// The neighbour's story and name.
const NEIGHBOUR: &str = "neighbour";
const ATTACKER: &str = "attacker";

/// One test for each story.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    telling::tests(SUITE, verdict)
}

/// How `story` ends on Pavise.
pub fn verdict(story: &str, context: &Context) -> Verdict {
    context.verdict(story, || {
        if story.starts_with("attack-") {
            beside_a_neighbour(story, context).unwrap_or_else(Verdict::silence)
        } else {
            telling::alone(SUITE, story, context)
        }
    })
}

/// Tells a story while another domain checks its memory. The attacker has the keyboard and begins at a key, when the
/// neighbour is ready. When it is gone the neighbour gets the keyboard, checks once more at a key, and has the last word.
fn beside_a_neighbour(story: &str, context: &Context) -> Result<Verdict> {
    let domains = vec![
        domain(ATTACKER, "selftest", &format!("story={story} start=key"), MEMORY),
        domain(NEIGHBOUR, "selftest", &format!("story={NEIGHBOUR}"), Memory::mib(16)),
    ];
    let machine = Machine { cpu: cpu(story).to_owned(), cpus: 2, ..machine(domains) };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let log = log_file(&format!("{SUITE}/{story}"));
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
fn lines_of(domain: &str, output: &str) -> String {
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
}
