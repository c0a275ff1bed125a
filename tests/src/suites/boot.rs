//! Suite `boot`: two demo domains on many kinds of machines, each greeted, talked to and halted; and the ways in which
//! a machine can be left.

use crate::{
    pattern::{Pattern, logged, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::Test,
};
use anyhow::{Result, bail};
use boot_archive::{Scheduling, WhenAllStopped};
use xtask::machine::{Chipset, Domain, Firmware, Machine, Memory};

/// The suite.
pub const SUITE: &str = "boot";

/// Moves the console's focus to the next domain (Ctrl-T).
const NEXT_DOMAIN: &str = "\x14";

const CPU_MODELS: [&str; 5] = ["qemu64", "Nehalem", "Skylake-Server", "EPYC", "max"];
const SMALL: Memory = Memory::mib(256);
const LARGE: Memory = Memory::gib(4);

/// A kind of machine.
type Kind = (Firmware, Chipset, u32, &'static str, Memory);

/// Each firmware with every board, number of CPUs, CPU model and size, in different company.
fn sample() -> Vec<Kind> {
    use Chipset::{Pc, Q35};
    use Firmware::{Bios, Uefi};
    vec![
        (Bios, Pc, 1, "qemu64", SMALL),
        (Uefi, Q35, 1, "qemu64", SMALL),
        (Bios, Q35, 2, "Nehalem", SMALL),
        (Uefi, Pc, 2, "Nehalem", LARGE),
        (Bios, Pc, 4, "Skylake-Server", LARGE),
        (Uefi, Q35, 4, "Skylake-Server", SMALL),
        (Bios, Q35, 2, "EPYC", LARGE),
        (Uefi, Pc, 1, "EPYC", SMALL),
        (Bios, Pc, 4, "max", SMALL),
        (Uefi, Q35, 4, "max", LARGE),
    ]
}

/// All combinations, with eight CPUs too.
fn whole_matrix() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for firmware in Firmware::ALL {
        for chipset in Chipset::ALL {
            for cpus in [1, 2, 4, 8] {
                let models = CPU_MODELS.into_iter();
                kinds
                    .extend(models.flat_map(|cpu| [SMALL, LARGE].map(|memory| (firmware, chipset, cpus, cpu, memory))));
            }
        }
    }
    kinds
}

/// The matrix, in full or a part of it, and the ends of a machine.
pub fn tests(full: bool) -> Vec<Test> {
    let kinds = if full { whole_matrix() } else { sample() };
    kinds.into_iter().map(two_domains).chain(ends()).collect()
}

fn two_domains((firmware, chipset, cpus, cpu, memory): Kind) -> Test {
    let name = format!("{}-{}-{cpus}cpu-{cpu}-{}MiB", firmware.word(), chipset.word(), memory.as_mib());
    let domains = vec![
        Domain { vcpus: 2, ..domain("alpha", "demo", "name=alpha colour=red", Memory::mib(48)) },
        domain("beta", "demo", "name=beta", Memory::mib(32)),
    ];
    let machine = Machine { firmware, chipset, cpus, cpu: cpu.to_owned(), memory, ..machine(domains) };
    let booted_by = if firmware == Firmware::Uefi { "UEFI" } else { "BIOS" };
    let mut expected =
        vec![logged(&format!("machine: {booted_by} boot, {cpus} CPUs")), logged(&format!("{cpus} of {cpus} CPUs run"))];
    // Those of Intel's that QEMU knows by these names say nothing of being without Meltdown.
    if matches!(cpu, "Nehalem" | "Skylake-Server") {
        expected.push(logged("cpu: guests run on page tables of their own"));
        expected.push(logged("cpu: buffers are cleared on the way to a guest"));
    }
    expected.extend(greeting("alpha", 48, 2, "name=alpha colour=red"));
    expected.extend(greeting("beta", 32, 1, "name=beta"));
    let mut steps = vec![Step::Expect(expected)];
    steps.extend(talk_and_halt(End::Clean));
    Scenario::new(machine, steps).test(SUITE, name)
}

/// Asks alpha, which has the focus first, then beta, and stops both, after which the machine ends.
pub fn talk_and_halt(end: End) -> [Step; 10] {
    [
        Step::Type("uptime\r".to_owned()),
        Step::Expect(vec![said_by("alpha", r"up \d+\.\d{3} s")]),
        Step::Type(NEXT_DOMAIN.to_owned()),
        Step::Expect(vec![logged(r"keys now go to d2 \(beta\).* moves on")]),
        Step::Type("echo and this is the other\rhalt\r".to_owned()),
        Step::Expect(vec![
            said_by("beta", "and this is the other"),
            logged(r"d2 \(beta\) shut down: power-off"),
            logged("d2: removed"),
            logged(r"keys now go to d1 \(alpha\).* moves on"),
        ]),
        Step::Type("halt\r".to_owned()),
        Step::Expect(vec![logged(r"d1 \(alpha\) shut down: power-off"), logged("all domains have stopped")]),
        Step::check(no_complaints),
        Step::End(end),
    ]
}

/// The hypervisor has neither warnings nor errors but those that say what the host's CPUs are like.
fn no_complaints(output: &str) -> Result<()> {
    let is_complaint = |line: &str| {
        [" WARN ", " ERROR "].iter().any(|level| line.contains(level))
            && !["Meltdown", "MDS", "TSC differs"].iter().any(|known| line.contains(known))
    };
    match output.lines().find(|line| is_complaint(line)) {
        Some(line) => bail!("the hypervisor complains: {line}"),
        None => Ok(()),
    }
}

/// What a demo domain says of itself, and its prompt.
pub fn greeting(name: &str, mib: u64, vcpus: u32, command_line: &str) -> Vec<Pattern> {
    vec![
        said_by(name, &format!(r"Hello from {name}, a paravirtualized Rust kernel\.")),
        said_by(name, r"  hypervisor    Xen ABI 4\.17\S*"),
        said_by(name, &format!(r"  memory        {mib} MiB \({} pages\), heap \d+ KiB", mib << 8)),
        said_by(name, &format!("  vCPUs         {vcpus}")),
        said_by(name, &format!("  command line  {command_line}")),
        format!("{name}> ").into(),
    ]
}

/// What `when_all_stopped` can ask for, and a domain that asks for a restart.
fn ends() -> impl Iterator<Item = Test> {
    let ending = |when_all_stopped, chipset| {
        let alpha = domain("alpha", "demo", "name=alpha", Memory::mib(32));
        Machine { when_all_stopped, chipset, ..machine(vec![alpha]) }
    };
    let powers_off = Chipset::ALL.map(|chipset| {
        let steps = vec![
            Step::Expect(vec!["alpha> ".into()]),
            Step::Type("halt\r".to_owned()),
            Step::Expect(vec![logged("all domains have stopped")]),
            Step::End(End::PowerOff),
        ];
        let machine = ending(WhenAllStopped::PowerOff, chipset);
        Scenario::new(machine, steps).test(SUITE, format!("power-off-{}", chipset.word()))
    });
    let stays = vec![
        Step::Expect(vec!["alpha> ".into()]),
        Step::Type("reboot\r".to_owned()),
        Step::Expect(vec![logged(r"d1 \(alpha\) shut down: reboot"), logged("all domains have stopped")]),
    ];
    let stays = Scenario::new(ending(WhenAllStopped::Stay, Chipset::Q35), stays).test(SUITE, "stay");
    powers_off.into_iter().chain([stays, first_ends_early()])
}

/// The first domain has ended and is gone before the second is made, on another CPU: the machine goes on. (On a host where
/// that CPU is very late the first may still be there.)
fn first_ends_early() -> Test {
    let second_cpu = Scheduling { cpus: 0b10, ..Scheduling::default() };
    let first = Domain { scheduling: second_cpu, ..domain("first", "selftest", "story=hello", Memory::mib(16)) };
    let second = domain("second", "demo", "name=second", Memory::mib(512));
    let ready = vec![logged("d1: removed"), "second> ".into()];
    let steps = vec![Step::Expect(ready), Step::Type("halt\r".to_owned()), Step::End(End::Clean)];
    let machine = Machine { cpus: 2, memory: Memory::gib(1), ..machine(vec![first, second]) };
    Scenario::new(machine, steps).test(SUITE, "first-ends-early".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_sample_has_every_value_with_both_firmwares() {
        for firmware in Firmware::ALL {
            let kinds: Vec<Kind> = sample().into_iter().filter(|kind| kind.0 == firmware).collect();
            let distinct = |value: fn(&Kind) -> String| kinds.iter().map(value).collect::<BTreeSet<_>>().len();
            assert_eq!(distinct(|kind| kind.1.word().to_owned()), Chipset::ALL.len());
            assert_eq!(distinct(|kind| kind.2.to_string()), 3);
            assert_eq!(distinct(|kind| kind.3.to_owned()), CPU_MODELS.len());
            assert_eq!(distinct(|kind| kind.4.to_string()), 2);
        }
        assert_eq!(whole_matrix().len(), 160);
    }
}
