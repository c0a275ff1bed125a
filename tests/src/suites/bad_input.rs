//! Suite `boot`, the unpleasant half: damaged archives, kernels that can't be started, settings that can't be met,
//! CPUs that lack something. What is bad is named, and everything else runs.

use super::boot::{SUITE, greeting};
use crate::{
    context::{Context, log_file},
    damage::Damage,
    pattern::{Pattern, logged},
    scenario::{End, Scenario, Step, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result};
use boot_archive::MAX_VCPUS;
use std::fs;
use xtask::{
    build,
    machine::{Domain, Kernel, Machine, Memory},
};

/// A domain that is to be refused: its name, what is wrong with its copy of the demo, and what the refusal says (a regular
/// expression).
type BadKernel = (&'static str, Damage, &'static str);

const BAD_KERNELS: [BadKernel; 5] = [
    ("no-elf", Damage::Byte(1), "kernel: not an ELF file"),
    ("half", Damage::Half, "kernel: ELF .* (leaves the file|cut off)"),
    ("32-bit", Damage::Text(b"\x7fELF\x02", b"\x7fELF\x01"), "kernel: ELF file is not 64-bit"),
    ("old-xen", Damage::Text(b"xen-3.0", b"xen-2.0"), "kernel: ELF note XEN_VERSION is 'xen-2.0', need 'xen-3.0'"),
    ("no-notes", Damage::Text(b"Xen\0", b"Zen\0"), "kernel: ELF file has no Xen notes"),
];

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        bad_archive("archive-half", Damage::Half, r"cut short: \d+ bytes of \d+"),
        bad_archive("archive-without-magic", Damage::Byte(0), "not a boot archive: wrong magic"),
        bad_archive("archive-header-damaged", Damage::Byte(40), "damaged: checksum of header"),
        damaged_kernel(),
        Test::machine(SUITE, "bad-kernels", bad_kernels),
        bad_settings(),
        nothing_to_run(),
        Test::machine(SUITE, "cpu-without-NX", without_nx),
        lacking("qemu64,-syscall", "SYSCALL").test(SUITE, "cpu-without-SYSCALL"),
        lacking("max,-pge", "PGE").test(SUITE, "cpu-without-PGE"),
    ]
}

/// The hypervisor says what is wrong with its archive, and stops.
fn bad_archive(name: &str, damage: Damage, says: &str) -> Test {
    let steps = vec![Step::Expect(vec![logged(&format!("boot archive: {says}"))])];
    Scenario { damage: Some(damage), ..Scenario::new(machine(vec![good()]), steps) }.test(SUITE, name)
}

/// A CPU without something that is required is told so.
fn lacking(cpu: &str, feature: &str) -> Scenario {
    let machine = Machine { cpu: cpu.to_owned(), ..machine(vec![good()]) };
    let says = logged(&format!(r"can't run on this machine: this CPU lacks ([A-Z0-9]+, )*{feature}\b"));
    Scenario::new(machine, vec![Step::Expect(vec![says])])
}

/// Without no-execute pages the boot loader faults, silently, in the page tables that it makes for the hypervisor, and
/// the machine resets. So nothing tells the user, until the boot loader does or is another one.
fn without_nx(context: &Context) -> Result<Ending> {
    let log = log_file(&format!("{SUITE}/cpu-without-NX"));
    match lacking("qemu64,-nx", "NX").play(context, &log) {
        Err(_) if !fs::read_to_string(&log)?.contains("cpu0") => {
            Ok(Ending::Skipped("the boot loader needs NX itself, and resets the machine without a word".to_owned()))
        }
        result => result,
    }
}

/// A bit in the archive's copy of one kernel is not what it was.
fn damaged_kernel() -> Test {
    // Equal files are stored once: the good domain must have another kernel.
    let bad = domain("bad", "selftest", "", Memory::mib(32));
    let steps = refused_beside_good(&[("bad", "kernel: damaged: checksum is")]);
    let scenario = Scenario::new(machine(vec![bad, good()]), steps);
    Scenario { damage: Some(Damage::KernelOf("bad")), ..scenario }.test(SUITE, "kernel-damaged")
}

/// Kernels that can't be started, all in one machine.
fn bad_kernels(context: &Context) -> Result<Ending> {
    let folder = tempfile::tempdir()?;
    context.pavise()?;
    let demo = fs::read(build::guest("demo"))?;
    let mut domains = Vec::new();
    for (name, damage, _) in BAD_KERNELS {
        let (mut elf, path) = (demo.clone(), folder.path().join(name));
        damage.apply(&mut elf).context(name)?;
        fs::write(&path, elf)?;
        domains.push(Domain { kernel: Kernel::File(path), ..domain(name, "demo", "", Memory::mib(16)) });
    }
    domains.push(good());
    let steps = refused_beside_good(&BAD_KERNELS.map(|(name, _, says)| (name, says)));
    Scenario::new(machine(domains), steps).play(context, &log_file(&format!("{SUITE}/bad-kernels")))
}

/// Settings that can't be met. The check of machine files finds them too; this is for an archive from elsewhere.
fn bad_settings() -> Test {
    let demo = |name, memory| domain(name, "demo", "", memory);
    let domains = vec![
        good(),
        demo("tiny", Memory::mib(1)),
        demo("huge", Memory::gib(1)),
        demo("good", Memory::mib(16)),
        Domain { vcpus: 0, ..demo("no-vcpu", Memory::mib(16)) },
        Domain { vcpus: MAX_VCPUS + 1, ..demo("many-vcpus", Memory::mib(16)) },
    ];
    let steps = refused_beside_good(&[
        ("tiny", r"kernel: needs at least \d+ KiB of memory, has 1024 KiB"),
        ("huge", r"needs 262144 pages of memory, \d+ are free"),
        ("good", "another domain has this name"),
        ("no-vcpu", "0 vCPUs, expected 1 to 32"),
        ("many-vcpus", "33 vCPUs, expected 1 to 32"),
    ]);
    Scenario::new(machine(domains), steps).test(SUITE, "bad-settings")
}

/// A machine whose only domain is refused has nothing to wait for.
fn nothing_to_run() -> Test {
    let steps = vec![
        Step::Expect(vec![refused("huge", "needs 262144 pages"), logged("all domains have stopped")]),
        Step::End(End::Clean),
    ];
    let huge = domain("huge", "demo", "", Memory::gib(1));
    Scenario::new(machine(vec![huge]), steps).test(SUITE, "nothing-to-run")
}

/// The neighbour of those that are refused.
fn good() -> Domain {
    domain("good", "demo", "name=good", Memory::mib(32))
}

fn refused(name: &str, says: &str) -> Pattern {
    logged(&format!(r"d\d+: refusing domain '{name}': {says}"))
}

/// Each of `bad` is refused with what it `says`, while [`good`] starts, works and stops.
fn refused_beside_good(bad: &[(&str, &str)]) -> Vec<Step> {
    let mut expected: Vec<Pattern> = bad.iter().map(|(name, says)| refused(name, says)).collect();
    expected.extend(greeting("good", 32, 1, "name=good"));
    vec![
        Step::Expect(expected),
        Step::Type("halt\r".to_owned()),
        Step::Expect(vec![logged(r"d\d+ \(good\) shut down: power-off")]),
        Step::End(End::Clean),
    ]
}
