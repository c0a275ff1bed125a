//! Stories that several domains tell together on Pavise.

use crate::{
    context::{Context, log_file},
    guest::{Outcome, Verdict},
    running::Running,
    scenario::{End, LIMIT, domain, machine},
    suite::{Ending, Test},
    telling::lines_of,
};
use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use xtask::{
    archive,
    machine::{Domain, Machine, Memory},
};

/// What the hypervisor may still have of a machine's memory when all domains are gone, in MiB.
const KEPT: u64 = 1;

/// A domain's part.
pub struct Part {
    /// Its story.
    pub story: String,
    /// What else is on its command line.
    pub options: String,
    /// Its memory.
    pub memory: Memory,
}

impl Part {
    /// A part for a domain of 16 MiB.
    pub fn new(story: &str, options: &str) -> Part {
        Part { story: story.to_owned(), options: options.to_owned(), memory: Memory::mib(16) }
    }
}

/// A story with its domains, which have the numbers from 1 up.
pub struct Together {
    /// CPUs of the machine.
    pub cpus: u32,
    /// Its memory.
    pub memory: Memory,
    /// The domains.
    pub parts: Vec<Part>,
}

impl Together {
    /// Makes it a test: all domains tell their parts, all end, and all memory is free again.
    pub fn test(self, suite: &'static str, name: String) -> Test {
        Test::machine(suite, name.clone(), move |context| self.tell(&format!("{suite}/{name}"), context))
    }

    fn tell(&self, test: &str, context: &Context) -> Result<Ending> {
        let named = |id: usize| format!("teller{id}");
        let domains = (1..).zip(&self.parts).map(|(id, part)| -> Domain {
            domain(&named(id), "selftest", &format!("story={} {}", part.story, part.options), part.memory)
        });
        let machine = Machine { cpus: self.cpus, memory: self.memory, ..machine(domains.collect()) };
        let archive = archive::make(&machine, &context.pavise()?.built)?;
        let mut running = Running::boot(context, &machine, &archive, &log_file(test), LIMIT)?;
        let ended = running.expect_end(End::Clean as i32);
        let output = running.output();
        for (id, part) in (1..).zip(&self.parts) {
            let verdict = Verdict::find(&part.story, &lines_of(&named(id), &output));
            let failed = || format!("d{id} ({}): {verdict}; {}", part.story, running.last_words());
            ensure!(verdict.outcome == Outcome::Pass, failed());
        }
        ended?;
        all_came_back(&output, self.parts.len()).with_context(|| running.last_words())?;
        Ok(Ending::Passed)
    }
}

/// Every domain was removed, and with the last one all memory was free again.
fn all_came_back(output: &str, domains: usize) -> Result<()> {
    let line = Regex::new(r"d\d+: removed; (\d+) MiB of (\d+) MiB free")?;
    let removed: Vec<(u64, u64)> = line
        .captures_iter(output)
        .filter_map(|captures| {
            let (_, [free, total]) = captures.extract();
            Some((free.parse().ok()?, total.parse().ok()?))
        })
        .collect();
    ensure!(removed.len() == domains, "{} of {domains} domains were removed", removed.len());
    let most = removed.iter().map(|(free, _)| *free).max().unwrap_or(0);
    let missing = removed.first().map_or(0, |(_, total)| *total).saturating_sub(most);
    // The hypervisor's heap keeps what it grew by: up to 16 KiB for each domain that was there at once.
    let kept = KEPT + domains as u64 / 64;
    ensure!(missing <= kept, "{missing} MiB are missing in the end");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_memory_and_domains_are_noticed() {
        let removed = |id, free| format!("[    1.000000] cpu0 INFO  d{id}: removed; {free} MiB of 240 MiB free\n");
        assert!(all_came_back(&[removed(2, 200), removed(1, 240)].concat(), 2).is_ok());
        assert!(all_came_back(&[removed(2, 200), removed(1, 220)].concat(), 2).is_err());
        assert!(all_came_back(&removed(1, 240), 2).is_err());
    }
}
