//! Suite `hostile`: front ends of disks and network devices that lie, beside a neighbour whose own disk and network go on.
//!
//! Time passes by instructions, and there is one CPU, so that what the neighbour gets done depends on what is executed and
//! on nothing else. Phases of attack alternate with phases in which the attacker sleeps, and the neighbour counts what it
//! gets done in both. What is fair: the time that the attacker's own vCPU takes is the scheduler's to share out, and any
//! guest takes it, so it is no loss; the rest of the time is the neighbour's and dom0's. There the neighbour may get done
//! a tenth less than beside a guest that sleeps, and no less: that tenth is what dom0 and the hypervisor may do for the
//! attacker.

use crate::{
    context::log_file,
    pattern::said_by,
    running::Running,
    scenario::{End, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, ensure};
use regex::Regex;
use xtask::{
    archive,
    machine::{
        Content, Disk, Dom0, Domain, DomainDisk, DomainNetwork, Interface, Machine, Memory, Network, Partition, Source,
    },
    qemu::COUNTING_CPU,
};

/// The suite.
const SUITE: &str = "hostile";

/// The system time in which is attacked and measured, in milliseconds. The neighbour must be at work by the first.
const FROM: u64 = 1200;
const TO: u64 = 2400;
/// What must get done beside an attack, in percent of what gets done beside nobody.
const LEAST: f64 = 90.0;
/// Bytes per second that the attacker may send: that a guest may not flood the others is said in the machine file.
const RATE: u64 = 128 << 10;

/// All tests.
pub fn tests() -> Vec<Test> {
    vec![
        beside_a_neighbour("block", "hostile-block"),
        beside_a_neighbour("net", "hostile-net"),
        beside_a_neighbour("nodes", "hostile-nodes"),
        beside_a_neighbour("store", "hostile-store"),
        test("again", vec![("neighbour", "hostile-survivor"), ("attacker", "hostile-again")], |_| Ok(())),
    ]
}

fn beside_a_neighbour(name: &'static str, story: &'static str) -> Test {
    test(name, vec![("neighbour", "hostile-witness"), ("attacker", story)], judge)
}

/// Domains that tell their stories at once, which all end well.
fn test(name: &'static str, stories: Vec<(&'static str, &'static str)>, judge: fn(&str) -> Result<()>) -> Test {
    Test::machine(SUITE, name, move |context| {
        let machine = behind_dom0(stories.iter().map(|(domain, story)| teller(domain, story)).collect());
        let archive = archive::make(&machine, &context.pavise()?.built)?;
        let log = log_file(&format!("{SUITE}/{name}"));
        let mut running = Running::boot_counting(context, &machine, &archive, &log)?;
        for (domain, story) in &stories {
            running.expect(&[said_by(domain, &format!("VERDICT {story} .*"))])?;
        }
        let ended = running.expect_end(End::Clean as i32);
        let output = running.output();
        for (domain, story) in &stories {
            let passed = said_by(domain, &format!("VERDICT {story} pass ?")).find(&output).is_some();
            ensure!(passed, "{domain} didn't pass; {}", running.last_words());
        }
        ended.with_context(|| running.last_words())?;
        judge(&output).with_context(|| running.last_words())?;
        Ok(Ending::Passed)
    })
}

/// Compares what the neighbour got done in its part of the time beside the attacker, and beside nobody.
fn judge(output: &str) -> Result<()> {
    let number = |text: &str| text.parse::<f64>().context("a number");
    let numbers = |expression: &str| -> Result<Vec<f64>> {
        let found = Regex::new(expression)?.captures(output).with_context(|| format!("no {expression}"))?;
        found.iter().skip(1).map(|text| number(text.map_or("", |text| text.as_str()))).collect()
    };
    let ran = numbers(r"\(attacker\) attacker: ran (\d+) of (\d+) us")?;
    let done = numbers(r"\(neighbour\) witness: requests (\d+) (\d+), frames (\d+) (\d+)")?;
    let left = 1.0 - ran[0] / ran[1];
    for (what, quiet, attacked) in [("requests", done[0], done[1]), ("frames", done[2], done[3])] {
        let percent = 100.0 * attacked / (quiet * left);
        ensure!(percent >= LEAST, "{what} beside the attack: {percent:.1} % of those beside nobody");
    }
    Ok(())
}

/// A domain with a partition and a network device; the neighbour has two, to send to itself.
fn teller(name: &str, story: &str) -> Domain {
    let options = format!("story={story} from={FROM} to={TO}");
    let source = Source::Partition(name.to_owned());
    let disks = vec![DomainDisk { name: "xvda".to_owned(), source, read_only: false }];
    let network = |place, last, rate| DomainNetwork {
        mac: [0x00, 0x16, 0x3e, 0, place, last],
        rate,
        any_source: false,
        backend: None,
    };
    let networks = match name {
        "attacker" => vec![network(1, 1, Some(RATE))],
        _ => vec![network(0, 1, None), network(0, 2, None)],
    };
    Domain { disks, networks, ..domain(name, "selftest", &options, Memory::mib(32)) }
}

fn behind_dom0(domains: Vec<Domain>) -> Machine {
    let partition = |label: &str| Partition { label: label.to_owned(), size: Memory::mib(4) };
    let partitions = vec![partition("attacker"), partition("neighbour")];
    let content = Content::Made { size: Memory::mib(12), partitions };
    Machine {
        cpu: COUNTING_CPU.to_owned(),
        dom0: Some(Dom0::with_memory(Memory::mib(48))),
        disks: vec![Disk { name: "data".to_owned(), content, interface: Interface::Virtio }],
        network: Some(Network::default()),
        ..machine(domains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attackers_own_time_is_no_loss() {
        let said = |ran: u32, attacked: u32| {
            let attacker = format!("(attacker) attacker: ran {ran} of 1000 us\n");
            judge(&format!("{attacker}(neighbour) witness: requests 1000 {attacked}, frames 500 500, lost 0\n"))
        };
        assert!(said(0, 900).is_ok() && said(250, 675).is_ok());
        assert!(said(0, 890).is_err() && said(250, 660).is_err());
        assert!(judge("").is_err());
    }
}
