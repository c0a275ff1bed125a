//! Suite `boot`, first part: two domains come up, answer and leave, on machines of many kinds.

use super::prompt::{CLEAN, answers, ends_with, greeted, halt, has_keys};
use crate::{
    run::Test,
    tally::Outcome,
    workshop::{self, Workshop},
};
use anyhow::Result;
use xtask::machine::{Chipset, Firmware, Machine, Memory};

/// CPU models, old to new.
const CPUS: [&str; 5] = ["qemu64", "Nehalem", "Skylake-Server", "EPYC", "max"];

/// One kind of machine.
#[derive(Clone, Copy)]
struct Kind(Firmware, Chipset, &'static str, u32, Memory);

/// Each value of the whole matrix at least once, and the pairs most likely to quarrel.
const SENSIBLE: [Kind; 8] = [
    Kind(Firmware::Bios, Chipset::Q35, "max", 2, Memory::mib(512)),
    Kind(Firmware::Bios, Chipset::Pc, "qemu64", 1, Memory::mib(256)),
    Kind(Firmware::Bios, Chipset::Q35, "Nehalem", 4, Memory::gib(4)),
    Kind(Firmware::Bios, Chipset::Pc, "EPYC", 8, Memory::mib(512)),
    Kind(Firmware::Uefi, Chipset::Q35, "max", 4, Memory::mib(512)),
    Kind(Firmware::Uefi, Chipset::Pc, "Skylake-Server", 1, Memory::mib(256)),
    Kind(Firmware::Uefi, Chipset::Q35, "EPYC", 2, Memory::gib(4)),
    Kind(Firmware::Uefi, Chipset::Pc, "qemu64", 2, Memory::gib(4)),
];

/// The tests.
pub fn tests(full: bool) -> Vec<Test> {
    let kinds = if full { whole_matrix() } else { SENSIBLE.to_vec() };
    let mut tests: Vec<_> = kinds
        .into_iter()
        .map(|kind| Test::on_machine("boot", kind.name(), move |workshop| two_domains(workshop, kind)))
        .collect();
    tests.push(Test::on_machine("boot", "a CPU without SYSCALL is told so", lacks_syscall));
    tests
}

fn whole_matrix() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for firmware in Firmware::ALL {
        for chipset in Chipset::ALL {
            for cpu in CPUS {
                for cpus in [1, 2, 4, 8] {
                    let memories = [Memory::mib(256), Memory::gib(4)];
                    kinds.extend(memories.map(|memory| Kind(firmware, chipset, cpu, cpus, memory)));
                }
            }
        }
    }
    kinds
}

impl Kind {
    fn name(&self) -> String {
        let Self(firmware, chipset, cpu, cpus, memory) = self;
        format!("{} {} {cpu} {cpus} CPUs {memory}", firmware.word(), chipset.word())
    }

    fn machine(&self) -> Machine {
        let Self(firmware, chipset, cpu, cpus, memory) = *self;
        let domains = vec![workshop::demo("alpha", 1), workshop::demo("beta", 2)];
        Machine { firmware, chipset, cpu: cpu.to_owned(), cpus, memory, ..workshop::machine(domains) }
    }
}

fn two_domains(workshop: &Workshop, kind: Kind) -> Result<Outcome> {
    let mut session = workshop.boot(&format!("boot {}", kind.name()), &kind.machine())?;
    greeted(&session, "alpha")?;
    greeted(&session, "beta")?;
    answers(&mut session, "alpha")?;
    halt(&mut session)?;
    has_keys(&session, "beta")?;
    answers(&mut session, "beta")?;
    halt(&mut session)?;
    ends_with(&mut session, CLEAN)?;
    Ok(Outcome::Pass)
}

fn lacks_syscall(workshop: &Workshop) -> Result<Outcome> {
    let machine = Machine { cpu: "qemu64,-syscall".to_owned(), ..workshop::machine(vec![workshop::demo("alpha", 1)]) };
    let session = workshop.boot("boot without syscall", &machine)?;
    let line = session.wait_until(|log| log.lines().find(|line| line.contains("SYSCALL")).map(str::to_owned));
    match line {
        Some(_) => Ok(Outcome::Pass),
        None => Ok(Outcome::Fail(format!("no line names SYSCALL: {}", session.last_words()))),
    }
}
