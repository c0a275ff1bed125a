//! Suite `hostile`: front ends of disks and network devices that lie, beside a neighbour whose own disk and network go on;
//! and back ends that lie to a guest, which are another guest's.
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
    scenario::{End, Scenario, Step, domain, machine},
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
/// The same for the neighbour of a client of lying back ends: all that time there are lies.
const BESIDE_BACK_ENDS: (u64, u64) = (400, 1200);
/// What must get done beside an attack, in percent of what gets done beside nobody.
const LEAST: f64 = 90.0;
/// How often that is measured at most.
const TRIES: u32 = 3;
/// Bytes per second that the attacker may send: that a guest may not flood the others is said in the machine file.
const RATE: u64 = 128 << 10;

/// All tests; with `full`, lies of back ends from more seeds.
pub fn tests(full: bool) -> Vec<Test> {
    let mut tests = vec![
        beside_a_neighbour("block", "hostile-block"),
        beside_a_neighbour("net", "hostile-net"),
        beside_a_neighbour("nodes", "hostile-nodes"),
        beside_a_neighbour("store", "hostile-store"),
        test("again", vec![("neighbour", "hostile-survivor"), ("attacker", "hostile-again")], |_| Ok(())),
        unplugged(),
    ];
    tests.extend((1..=if full { 20 } else { 1 }).map(lying_back_ends));
    tests
}

fn beside_a_neighbour(name: &'static str, story: &'static str) -> Test {
    test(name, vec![("neighbour", "hostile-witness"), ("attacker", story)], judge)
}

fn test(name: &'static str, stories: Vec<(&'static str, &'static str)>, judge: fn(&str) -> Result<()>) -> Test {
    let tellers = move || stories.iter().map(|(domain, story)| teller(domain, story)).collect();
    judged(name, tellers, judge)
}

/// Domains that tell their stories at once, which all end well. How much they get done is judged once more, and a third time, if
/// it was too little: the disk's answers take the host's own time, and where that is busy they are late now and then.
fn judged(
    name: impl Into<String>,
    tellers: impl Fn() -> Vec<Domain> + Send + Sync + 'static,
    judge: fn(&str) -> Result<()>,
) -> Test {
    let name = name.into();
    Test::machine(SUITE, name.clone(), move |context| {
        let domains = tellers();
        let stories: Vec<_> = domains.iter().map(|domain| (domain.name.clone(), story(domain).to_owned())).collect();
        let machine = behind_dom0(domains);
        let archive = archive::make(&machine, &context.pavise()?.built)?;
        let log = log_file(&format!("{SUITE}/{name}"));
        let mut tries = 1..=TRIES;
        loop {
            let last = tries.next() == Some(TRIES);
            let running = told(Running::boot_counting(context, &machine, &archive, &log)?, &stories)?;
            match judge(&running.output()) {
                Ok(()) => return Ok(Ending::Passed),
                Err(error) if last => return Err(error.context(running.last_words())),
                Err(_) => {}
            }
        }
    })
}

/// All domains of a machine have told their stories well, and the machine has ended.
fn told(mut running: Running, stories: &[(String, String)]) -> Result<Running> {
    for (domain, story) in stories {
        running.expect(&[said_by(domain, &format!("VERDICT {story} .*"))])?;
    }
    let ended = running.expect_end(End::Clean as i32);
    let output = running.output();
    for (domain, story) in stories {
        let passed = said_by(domain, &format!("VERDICT {story} pass ?")).find(&output).is_some();
        ensure!(passed, "{domain} didn't pass; {}", running.last_words());
    }
    ended.with_context(|| running.last_words())?;
    Ok(running)
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
    teller_for(name, story, (FROM, TO))
}

fn teller_for(name: &str, story: &str, (from, to): (u64, u64)) -> Domain {
    let options = format!("story={story} from={from} to={to}");
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

/// The story that a domain tells.
fn story(domain: &Domain) -> &str {
    let mut options = domain.command_line.split(' ');
    options.find_map(|option| option.strip_prefix("story=")).unwrap_or_default()
}

/// A driver domain, which has no devices itself.
fn server(story: &str) -> Domain {
    domain("server", "selftest", &format!("story={story}"), Memory::mib(32))
}

/// A domain with a disk of dom0's, and a disk and a network device of the server's.
fn client(story: &str) -> Domain {
    let disk = |name: &str, source| DomainDisk { name: name.to_owned(), source, read_only: false };
    let disks =
        vec![disk("xvda", Source::Partition("attacker".to_owned())), disk("xvdb", Source::Domain("server".to_owned()))];
    let mac = [0x00, 0x16, 0x3e, 0, 2, 1];
    let networks = vec![DomainNetwork { mac, rate: None, any_source: false, backend: Some("server".to_owned()) }];
    Domain { disks, networks, ..domain("client", "selftest", &format!("story={story}"), Memory::mib(32)) }
}

/// A driver domain lies to its client, and a neighbour's devices work. What is random follows from the seed.
fn lying_back_ends(seed: u32) -> Test {
    let name = if seed == 1 { "back-ends".to_owned() } else { format!("back-ends-{seed}") };
    let tellers = move || {
        let neighbour = teller_for("neighbour", "hostile-witness", BESIDE_BACK_ENDS);
        vec![server(&format!("driver-lies seed={seed}")), client("driver-lied-to"), neighbour]
    };
    judged(name, tellers, |_| Ok(()))
}

/// A driver domain goes, and comes back.
fn unplugged() -> Test {
    let says = |domain, what: &str| Step::Expect(vec![said_by(domain, what)]);
    let steps = vec![
        says("client", "client: plugged"),
        // From the server by the client to dom0.
        Step::Type("\x14\x14destroy server\r".to_owned()),
        says("client", "client: unplugged"),
        Step::Type("create server\r".to_owned()),
        Step::Expect(vec![
            said_by("client", "VERDICT driver-unplugged pass ?"),
            said_by("server", "VERDICT driver-serves pass ?"),
        ]),
        Step::End(End::Clean),
    ];
    let machine = Machine { cpus: 2, ..behind_dom0(vec![server("driver-serves"), client("driver-unplugged")]) };
    Scenario::new(machine, steps).test(SUITE, "unplugged")
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
