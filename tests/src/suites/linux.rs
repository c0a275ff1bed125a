//! Suite `linux`: Debian's kernel as Debian ships it, behind dom0. It is asked on its console, worked hard, and ended in
//! every way that it has.
//!
//! The kernel and busybox come from Debian's packages by apt; where those can't be fetched the tests are skipped.

mod devices;
mod four;
mod full;
mod root;

use super::{boot::greeting, models};
use crate::{
    context::log_file,
    pattern::{Pattern, regex, said_by},
    running::Running,
    scenario::{End, Step, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context, Result, ensure};
use boot_archive::Xpti;
use regex::Regex;
use std::{process::Command, time::Duration};
use xtask::{
    archive, build,
    commands::bench::linux,
    debian::{self, KernelPackage},
    initramfs::Extra,
    machine::{Dom0, Domain, Firmware, Kernel, Machine, Memory, Ramdisk},
    step,
};

/// The suite.
const SUITE: &str = "linux";

/// The time that a machine has: a minute for each boot of Linux, and much more on a host that is busy.
const LIMIT: Duration = Duration::from_secs(900);

/// The domain, which is its host name too, and what its shell asks with.
const NAME: &str = "debian";
const PROMPT: &str = "debian:/root# ";

/// The neighbour, which keeps the machine running when Linux has ended.
const NEIGHBOUR: &str = "rust";

/// Moves the keys to the next console (Ctrl-T).
const NEXT: &str = "\x14";
/// What dom0 asks with.
const DOM0_PROMPT: &str = "dom0> ";

/// The program that works a guest hard, and how long, in seconds: in every run, and in a full one.
const STRESS: &str = "linux-stress";
const SECONDS: u32 = 20;
const SECONDS_LONG: u32 = 180;

/// Keeps what the kernel says from the console, where it would come in the middle of answers.
const QUIET: &str = "dmesg -n 1; echo quiet";

/// Everything that a kernel says when it has found a mistake of its own, or of the machine's. What it says of a CPU's
/// weaknesses (`RETBleed: WARNING: ...`) is none.
const COMPLAINTS: &str = "] WARNING:|BUG:|Oops|lockup|Call Trace|rcu_.*stall|hung_task|Spurious|error code";

/// Counts the CPUs whose timer has interrupted them and no other.
const TICKING: &str = "awk '/timer[0-9]/ { own = substr($NF, 6) + 2; for (c = 2; c < NF - 2; c++) all += $c; \
                       sum += $own; n += $own > 0 } END { print \"ticking\", all == sum ? n : \"astray\" }' \
                       /proc/interrupts";

/// A Linux guest and its machine.
#[derive(Clone, Copy)]
struct Guest {
    kernel: &'static str,
    vcpus: u32,
    memory: Memory,
    stress: bool,
    xpti: Xpti,
    /// The CPU, if Bochs plays the machine.
    model: Option<&'static str>,
}

impl Guest {
    const SMALL: Guest =
        Guest { kernel: "amd64", vcpus: 1, memory: Memory::mib(256), stress: false, xpti: Xpti::Auto, model: None };
}

/// All tests; with `full`, those that take minutes too.
pub fn tests(full: bool) -> Vec<Test> {
    let mut tests = vec![
        test("shell-1", LIMIT, Guest { memory: Memory::mib(96), ..Guest::SMALL }, |guest| {
            [shell(guest), poweroff(End::Clean)].concat()
        }),
        test("shell-2", LIMIT, Guest { vcpus: 2, ..Guest::SMALL }, |guest| {
            [shell(guest), modules(), reboot(guest, 1, 3)].concat()
        }),
        test("shell-4", LIMIT, Guest { vcpus: 4, ..Guest::SMALL }, |guest| {
            [shell(guest), hotplug(guest.vcpus), crash()].concat()
        }),
        test("stress", LIMIT, Guest { vcpus: 2, stress: true, ..Guest::SMALL }, |guest| stress(guest, SECONDS)),
        devices::test(),
        Test::host(SUITE, "bench-program", |_| bench_program()),
        four::test(),
    ];
    if full {
        tests.extend(full::tests());
    }
    tests
}

/// The program of `./x bench linux` runs on the host's own Linux too, and has the rows that there are bars for.
fn bench_program() -> Result<Ending> {
    let mut command = Command::new(build::linux_program(linux::PROGRAM)?);
    let output = command.output().with_context(|| format!("cannot run {}", step::shown(&command)))?;
    linux::counts(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Ending::Passed)
}

fn test(name: &str, limit: Duration, guest: Guest, steps: fn(Guest) -> Vec<Step>) -> Test {
    let log = log_file(&format!("{SUITE}/{name}"));
    Test::machine(SUITE, name.to_owned(), move |context| {
        if let Some(skipped) = guest.is_missing() {
            return Ok(skipped);
        }
        let machine = guest.machine()?;
        let archive = archive::make(&machine, &context.pavise()?.built)?;
        let mut running = Running::boot(context, &machine, &archive, &log, limit)?;
        steps(guest).iter().try_for_each(|step| step.take(&mut running))?;
        Ok(Ending::Passed)
    })
}

impl Guest {
    /// The end of a test for which Debian's packages can't be fetched.
    fn is_missing(&self) -> Option<Ending> {
        let reason = KernelPackage::get(self.kernel).and_then(|_| debian::busybox()).err()?;
        Some(Ending::Skipped(format!("no package of Debian's: {reason:#}")))
    }

    fn machine(&self) -> Result<Machine> {
        let extras = if self.stress {
            vec![Extra { to: format!("bin/{STRESS}"), from: build::linux_program(STRESS)? }]
        } else {
            Vec::new()
        };
        let linux = Domain {
            kernel: Kernel::Debian(self.kernel.to_owned()),
            ramdisk: Some(Ramdisk::Busybox(extras)),
            vcpus: self.vcpus,
            ..domain(NAME, "", "console=hvc0", self.memory)
        };
        let neighbour = domain(NEIGHBOUR, "demo", "name=rust", Memory::mib(16));
        let memory = Memory::mib(self.memory.as_mib() + 384);
        let machine = Machine {
            memory,
            xpti: self.xpti,
            dom0: Some(Dom0::with_memory(Memory::mib(192))),
            ..machine(vec![linux, neighbour])
        };
        Ok(match self.model {
            None => Machine { firmware: Firmware::Uefi, cpus: 2, ..machine },
            Some(model) => models::on(model, machine),
        })
    }
}

/// Types a line, and waits for what follows it.
fn ask(line: &str, answers: Vec<Pattern>) -> [Step; 2] {
    [Step::Type(format!("{line}\r")), Step::Expect(answers)]
}

/// Asks Linux for something, which it says in a line of its own before it asks again.
fn told(line: &str, expression: &str) -> [Step; 2] {
    told_by(NAME, line, expression)
}

/// Asks the Linux guest with this host name.
fn told_by(name: &str, line: &str, expression: &str) -> [Step; 2] {
    ask(line, vec![said_by(name, expression), format!("{name}:/root# ").into()])
}

/// Moves the keys on.
fn next(name: &str) -> [Step; 2] {
    [Step::Type(NEXT.to_owned()), Step::Expect(vec![said_by("dom0", &format!("keys now go to {name}; .*"))])]
}

/// A prompt on `hvc0`, and a kernel that has found what it needs and nothing to complain about.
fn shell(guest: Guest) -> Vec<Step> {
    let vcpus = guest.vcpus.to_string();
    let mut booted = vec![
        said_by(NAME, r"\[ .*Hypervisor detected: Xen PV"),
        said_by(NAME, r"\[ .*xen:events: Using FIFO-based ABI"),
        said_by(NAME, r"\[ .*Grant table initialized"),
        said_by(NAME, r"\[ .*clocksource: Switched to clocksource xen"),
        PROMPT.into(),
    ];
    booted.extend(greeting(NEIGHBOUR, 16, 1, "name=rust").into_iter().take(1));
    let questions = [
        told(QUIET, "quiet"),
        told("uname -r", r"\d+\.\d+\.\d+[-+].*amd64"),
        told("nproc", &vcpus),
        told("cat /sys/hypervisor/type", "xen"),
        told("dmesg | grep -c 'PV spinlocks enabled'", if guest.vcpus > 1 { "1" } else { "0" }),
        told(TICKING, &format!("ticking {vcpus}")),
        told("grep -cE '^ *(ERR|MIS): +0$' /proc/interrupts", "2"),
        told("grep -c 'Tick Device: mode: *0' /proc/timer_list", "0"),
        told("lsmod | grep -c ^xen_", "2"),
        told("echo $((6 * 7)) | tr 0-9 a-j", "ec"),
        told("sleep 1; echo awake", "awake"),
        told("for i in $(seq 50); do /bin/true || echo no; done; echo forked", "forked"),
        told(&format!("dmesg | grep -cE '{COMPLAINTS}'"), "0"),
    ];
    let mut steps = vec![Step::Expect(booted)];
    steps.extend(questions.into_iter().flatten());
    steps
}

/// The neighbour goes on when Linux has powered itself off; when that has, so does the machine.
fn poweroff(end: End) -> Vec<Step> {
    let steps = [
        ask("poweroff", vec![said_by("dom0", &format!(r"d1 \({NAME}\) powered off"))]),
        next(NEIGHBOUR),
        ask("halt", vec![said_by("dom0", "all domains have stopped")]),
    ];
    steps.into_iter().flatten().chain([Step::End(end)]).collect()
}

/// It powers itself off, as number so and so.
fn off(name: &str, number: u32) -> [Step; 2] {
    ask("poweroff", vec![said_by("dom0", &format!(r"d{number} \({name}\) powered off"))])
}

/// It comes again after a reboot, with another number.
fn reboot(guest: Guest, before: u32, after: u32) -> Vec<Step> {
    let again = vec![
        said_by("dom0", &format!(r"d{before} \({NAME}\) reboots")),
        said_by("dom0", &format!(r"d{after} \({NAME}\): 256 MiB, {} vCPUs", guest.vcpus)),
        said_by(NAME, r"\[ .*Hypervisor detected: Xen PV"),
        PROMPT.into(),
    ];
    [ask("reboot", again), told("nproc", &guest.vcpus.to_string())].into_iter().flatten().collect()
}

/// A module that others need comes and goes: its code becomes executable and read-only, and is memory again.
fn modules() -> Vec<Step> {
    let loaded = |count: &str| told("lsmod | grep -cE '^(ext4|jbd2) '", count);
    let load = "for name in jbd2 ext4; do insmod /lib/modules/$name.ko; done; echo loaded";
    let steps = [told("rmmod ext4 && rmmod jbd2; echo away", "away"), loaded("0"), told(load, "loaded"), loaded("2")];
    steps.concat()
}

/// CPUs are taken from it and given back by itself.
fn hotplug(vcpus: u32) -> Vec<Step> {
    let all = |state: u32| {
        format!("for c in $(seq 1 {}); do echo {state} >/sys/devices/system/cpu/cpu$c/online; done; nproc", vcpus - 1)
    };
    [told(&all(0), "1"), told(&all(1), &vcpus.to_string())].into_iter().flatten().collect()
}

/// Its kernel panics: dom0 says so, and the neighbour goes on.
fn crash() -> Vec<Step> {
    let panicked = vec![
        said_by(NAME, r"\[ .*Kernel panic - not syncing: sysrq triggered crash"),
        said_by("dom0", &format!(r"ERROR: d1 \({NAME}\) crashed")),
    ];
    let steps = [
        ask("echo c >/proc/sysrq-trigger", panicked),
        next(NEIGHBOUR),
        ask("echo not disturbed", vec![said_by(NEIGHBOUR, "not disturbed")]),
    ];
    steps.into_iter().flatten().collect()
}

/// Works it hard. After that and a `poweroff` the machine has as much free memory as without it.
fn stress(guest: Guest, seconds: u32) -> Vec<Step> {
    let mut steps = shell(guest);
    let rest = [
        off(NAME, 1),
        next(NEIGHBOUR),
        next("dom0"),
        free(),
        ask(&format!("create {NAME}"), vec![said_by("dom0", &format!(r"d3 \({NAME}\): .*"))]),
        ask(&format!("console {NAME}"), vec![PROMPT.into()]),
        told(&format!("{STRESS} {seconds}"), "linux-stress: passed"),
        told(&format!("dmesg | grep -cE '{COMPLAINTS}'"), "0"),
        off(NAME, 3),
        next(NEIGHBOUR),
        next("dom0"),
        free(),
    ];
    steps.extend(rest.into_iter().flatten());
    steps.push(Step::check(as_much_is_free));
    steps
}

/// Looks at the machine's free memory, at dom0's prompt.
fn free() -> [Step; 2] {
    ask("top", vec![regex(r"^machine: \d+ of \d+ KiB free"), DOM0_PROMPT.into()])
}

/// Both looks at the machine's memory found the same amount free; or the hypervisor's heap has grown between them, once.
fn as_much_is_free(output: &str) -> Result<()> {
    /// By which the heap grows, in KiB.
    const STEP: u64 = 64;
    let free = Regex::new(r"(?m)^machine: (\d+) of")?;
    let looks = free.captures_iter(output).map(|found| found.extract::<1>().1[0].parse());
    let looks: Vec<u64> = looks.collect::<Result<_, _>>()?;
    let back = matches!(looks[..], [before, after] if before == after || before == after + STEP);
    ensure!(back, "free memory, in KiB: {looks:?}");
    Ok(())
}
