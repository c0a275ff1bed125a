//! Two Debian guests and two Rust guests at once behind one dom0: the machine that `machines/four.toml` shows to users, with
//! traffic on all disks and devices at the same time, and memory that goes to and fro.

use super::{COMPLAINTS, DOM0_PROMPT, Guest, LIMIT, QUIET, SUITE, ask, free, next, told_by};
use crate::{
    context::{Context, log_file},
    outside,
    pattern::said_by,
    running::Running,
    scenario::{End, Step},
    suite::{Ending, Test},
};
use anyhow::{Result, bail, ensure};
use boot_archive::WhenAllStopped;
use regex::Regex;
use std::{fs, path::Path, time::Duration};
use xtask::{
    archive,
    initramfs::Extra,
    machine::{DOM0, Domain, Machine, Overrides, Ramdisk},
    paths,
    qemu::DEBUG_EXIT_PORT,
};

/// The machine file.
const FILE: &str = "machines/four.toml";
/// Its guests.
pub const LINUX: [&str; 2] = ["apple", "birch"];
const RUST: [&str; 2] = ["copper", "dune"];
/// What a Debian guest has, in KiB, and what is left when it was asked to give some back.
const WHOLE: u64 = 160 << 10;
const LITTLE: u64 = 96 << 10;
/// The test's program for disks and networks.
pub const TRAFFIC: &str = "traffic";
/// How long it goes on, in seconds: one round of it at least.
const SECONDS: u32 = 1;

/// Says where the other Debian guest is: they have the first two addresses that DHCP gives.
pub const PEER: &str = r"10.0.2.$((31 - $(ip addr show eth0 | sed -n 's/.*inet 10\.0\.2\.\([0-9]*\).*/\1/p')))";

/// All four have a prompt, a page and a disk, all at the same time.
pub fn test() -> Test {
    let log = log_file(&format!("{SUITE}/four"));
    Test::machine(SUITE, "four".to_owned(), move |context| {
        if let Some(skipped) = Guest::SMALL.is_missing() {
            return Ok(skipped);
        }
        let (machine, ports) = machine()?;
        play(context, &machine, &log, LIMIT, |take| {
            take(start())?;
            take(work())?;
            pages(ports)?;
            take(results())?;
            take(balloon())?;
            take(suspend())?;
            take(end())
        })?;
        Ok(Ending::Passed)
    })
}

/// Boots the machine, and has the story taken step by step.
pub fn play(
    context: &Context,
    machine: &Machine,
    log: &Path,
    limit: Duration,
    story: impl FnOnce(&mut dyn FnMut(Vec<Step>) -> Result<()>) -> Result<()>,
) -> Result<()> {
    // Disks of a run before would have its data.
    let disks = log.with_extension("disks");
    if disks.exists() {
        fs::remove_dir_all(&disks)?;
    }
    let archive = archive::make(machine, &context.pavise()?.built)?;
    let mut running = Running::boot(context, machine, &archive, log, limit)?;
    story(&mut |steps| steps.iter().try_for_each(|step| step.take(&mut running)))?;
    fs::remove_dir_all(&disks)?;
    Ok(())
}

/// The machine of the file, with other ports of the host, which are returned, and the test's program in its RAM disks.
pub fn machine() -> Result<(Machine, [u16; 4])> {
    let mut machine = Machine::load(&paths::root().join(FILE), Overrides::default())?;
    machine.when_all_stopped = WhenAllStopped::DebugExit(DEBUG_EXIT_PORT);
    let ports = outside::free_ports();
    let forwards = machine.network.as_mut().map(|network| &mut network.forwards[..]).unwrap_or_default();
    ensure!(forwards.len() == ports.len(), "{FILE} has another number of forwards");
    forwards.iter_mut().zip(ports).for_each(|(forward, port)| forward.host = port);
    for domain in machine.domains.iter_mut().filter(|domain| LINUX.contains(&domain.name.as_str())) {
        let from = paths::root().join("tests/linux").join(TRAFFIC);
        extras(domain)?.push(Extra { to: format!("bin/{TRAFFIC}"), from });
    }
    Ok((machine, ports))
}

/// What is in a Debian guest's RAM disk beside what is in all of them.
pub fn extras(domain: &mut Domain) -> Result<&mut Vec<Extra>> {
    match &mut domain.ramdisk {
        Some(Ramdisk::Busybox(extras)) => Ok(extras),
        other => bail!("{FILE} has {other:?} for a Debian guest"),
    }
}

/// Moves the keys from one guest, or dom0, to another. Each has them once on the way.
pub fn keys(from: &str, to: &str) -> Vec<Step> {
    let [apple, birch] = LINUX;
    let [copper, dune] = RUST;
    let ring = [apple, birch, copper, dune, DOM0].into_iter().cycle();
    let mut steps = Vec::new();
    for name in ring.skip_while(|name| *name != from).skip(1).take(5) {
        steps.extend(next(name));
        if name == to {
            break;
        }
    }
    steps
}

/// All have started, and have found their devices. The first has the keys.
pub fn start() -> Vec<Step> {
    let [apple, birch] = LINUX;
    let mut ready = Vec::new();
    for name in LINUX {
        // What it asks with is only shown where the keys are.
        ready.push(said_by(name, "Enter 'help' for a list of built-in commands."));
        ready.push(said_by(name, r"udhcpc: lease of 10\.0\.2\.1[56] obtained from 10\.0\.2\.2, .*"));
    }
    for (name, last) in RUST.into_iter().zip(101..) {
        ready.push(said_by(name, &format!(r".*network: my address is 10\.0\.2\.{last}")));
        ready.push(said_by(name, ".*disk: no records"));
    }
    let serve =
        |name| [told_by(name, QUIET, "quiet"), told_by(name, &format!("{TRAFFIC} serve"), "traffic: served")].concat();
    [vec![Step::Expect(ready)], serve(apple), keys(apple, birch), serve(birch), keys(birch, apple)].concat()
}

/// All have something to do at the same time. The last has the keys then.
fn work() -> Vec<Step> {
    let [apple, birch] = LINUX;
    let [copper, dune] = RUST;
    let line = |line: &str| vec![Step::Type(format!("{line}\r"))];
    let traffic = || line(&format!("{TRAFFIC} {SECONDS} {PEER}"));
    let steps = [
        traffic(),
        keys(apple, birch),
        traffic(),
        keys(birch, copper),
        line("disk fill 7"),
        keys(copper, dune),
        line("stream 10.0.2.15 1"),
    ];
    steps.concat()
}

/// The host has a page from each, in the middle of that.
fn pages([first, second, copper, dune]: [u16; 4]) -> Result<()> {
    let name = |port| outside::page(port, "name").map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
    let mut names = [name(first)?, name(second)?];
    names.sort();
    ensure!(names == LINUX, "the Debian guests are {names:?}");
    for (name, port) in RUST.into_iter().zip([copper, dune]) {
        let page = String::from_utf8_lossy(&outside::page(port, "")?).into_owned();
        ensure!(page.starts_with(&format!("Hello from {name}")), "{name} says {page:?}");
    }
    Ok(())
}

/// All of it went well. dom0 has the keys then.
fn results() -> Vec<Step> {
    let [apple, birch] = LINUX;
    let [copper, dune] = RUST;
    // Typed while the traffic goes on, it is read when that has ended.
    let result = |name| {
        let complaints = told_by(name, &format!("dmesg | grep -cE '{COMPLAINTS}'"), "0");
        [told_by(name, "echo result $?", "result 0"), complaints].concat()
    };
    let steps = [
        vec![Step::Expect(vec![said_by(dune, ".*stream: 1 MiB came back whole, .*")])],
        keys(dune, apple),
        result(apple),
        keys(apple, birch),
        result(birch),
        keys(birch, copper),
        ask("disk check 7", vec![said_by(copper, ".*disk: 0 sectors are not of pattern 7")]).to_vec(),
        keys(copper, DOM0),
    ];
    steps.concat()
}

/// dom0 has a guest have so many KiB, and waits for it. dom0 has the keys.
pub fn resize(name: &str, kib: u64) -> Vec<Step> {
    let current = "/sys/devices/system/xen_memory/xen_memory0/info/current_kb";
    let line = format!("until grep -qx {kib} {current}; do sleep 1; done; echo has {kib}");
    let steps = [
        ask(&format!("mem {name} {} MiB", kib >> 10), vec![DOM0_PROMPT.into()]).to_vec(),
        keys(DOM0, name),
        told_by(name, &line, &format!("has {kib}")).to_vec(),
        keys(name, DOM0),
    ];
    steps.concat()
}

/// A guest gives memory back, which the hypervisor has at once, works with what is left, and gets all of it again. dom0 has
/// the keys.
fn balloon() -> Vec<Step> {
    let name = LINUX[0];
    let fill = told_by(name, "dd if=/dev/zero of=/dev/null bs=60M count=1", r"1\+0 records out");
    let steps = [
        free().to_vec(),
        resize(name, LITTLE),
        free().to_vec(),
        resize(name, WHOLE),
        keys(DOM0, name),
        fill.to_vec(),
        keys(name, DOM0),
        free().to_vec(),
        vec![Step::check(memory_moved)],
    ];
    steps.concat()
}

/// A guest that is asked to suspend itself, which nobody could wake it from, is refused that and goes on. dom0 has the keys.
fn suspend() -> Vec<Step> {
    let name = LINUX[1];
    let refused = "until dmesg | grep -q 'Restarting tasks'; do sleep 1; done; echo refused";
    let steps = [
        ask("store write /local/domain/2/control/shutdown suspend", vec![DOM0_PROMPT.into()]).to_vec(),
        keys(DOM0, name),
        told_by(name, refused, "refused").to_vec(),
        told_by(name, "dd if=/dev/xvda of=/dev/null bs=1M count=2", r"2\+0 records out").to_vec(),
        told_by(name, "ping -c 1 10.0.2.2", "1 packets transmitted, 1 packets received, 0% packet loss").to_vec(),
        told_by(name, &format!("dmesg | grep -cE '{COMPLAINTS}'"), "0").to_vec(),
        keys(name, DOM0),
    ];
    steps.concat()
}

/// What the guest gave was free, to the last frame, and is not any more.
fn memory_moved(output: &str) -> Result<()> {
    /// By which the hypervisor's heap may have grown, in KiB.
    const STEP: u64 = 64;
    let free = Regex::new(r"(?m)^machine: (\d+) of")?;
    let looks = free.captures_iter(output).map(|found| found.extract::<1>().1[0].parse());
    let looks: Vec<u64> = looks.collect::<Result<_, _>>()?;
    let [before, given, back] = looks[..] else { bail!("{} looks at the memory", looks.len()) };
    let near = |found: u64, expected: u64| found <= expected && found + STEP >= expected;
    ensure!(
        near(given, before + WHOLE - LITTLE) && near(back, given - (WHOLE - LITTLE)),
        "free memory, in KiB: {looks:?}"
    );
    Ok(())
}

/// All power themselves off, and the machine with them. dom0 has the keys before.
fn end() -> Vec<Step> {
    let off = |name: &str, line: &str| ask(line, vec![said_by("dom0", &format!(r"d\d \({name}\) powered off"))]);
    let linux = LINUX.into_iter().flat_map(|name| [next(name), off(name, "poweroff")]);
    let rust = RUST.into_iter().flat_map(|name| [next(name), off(name, "halt")]);
    let mut steps = linux.chain(rust).collect::<Vec<_>>().concat();
    steps.extend([Step::Expect(vec![said_by("dom0", "all domains have stopped")]), Step::End(End::Clean)]);
    steps
}
