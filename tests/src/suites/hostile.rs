//! Suite `hostile`: front ends of disks and network devices that lie, beside a neighbour whose own disk and network go on.
//!
//! Time passes by instructions, and there is one CPU, so that what the neighbour gets done depends on what is executed and
//! on nothing else. The neighbour compares phases of attack with phases in which the attacker only keeps its vCPU busy: the
//! time that a guest's own vCPU takes is the scheduler's to share out, and an honest guest takes it too. What remains is what
//! dom0 does for the attacker, which has to be so little that the neighbour misses no more than a tenth.

use crate::{
    context::log_file,
    pattern::said_by,
    running::Running,
    scenario::{End, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context as _, ensure};
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
const FROM: u64 = 400;
const TO: u64 = 1200;
/// Bytes per second that the attacker may send: that a guest may not flood the others is said in the machine file.
const RATE: u64 = 1 << 20;

/// All tests.
pub fn tests() -> Vec<Test> {
    vec![
        beside_a_neighbour("block", "hostile-block"),
        beside_a_neighbour("net", "hostile-net"),
        beside_a_neighbour("nodes", "hostile-nodes"),
        beside_a_neighbour("store", "hostile-store"),
        test("again", vec![("attacker", "hostile-again")]),
    ]
}

fn beside_a_neighbour(name: &'static str, story: &'static str) -> Test {
    test(name, vec![("neighbour", "hostile-witness"), ("attacker", story)])
}

/// Domains that tell their stories at once, which all end well.
fn test(name: &'static str, stories: Vec<(&'static str, &'static str)>) -> Test {
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
        Ok(Ending::Passed)
    })
}

/// A domain with a partition and a network device; the neighbour has two, to send to itself.
fn teller(name: &str, story: &str) -> Domain {
    let options = format!("story={story} from={FROM} to={TO}");
    let source = Source::Partition(name.to_owned());
    let disks = vec![DomainDisk { name: "xvda".to_owned(), source, read_only: false }];
    let network =
        |place, last, rate| DomainNetwork { mac: [0x00, 0x16, 0x3e, 0, place, last], rate, any_source: false };
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
