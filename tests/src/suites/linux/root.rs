//! A whole Debian of the machine file that users are shown: systemd, apt, its own root file system on a disk.

use super::{COMPLAINTS, DOM0_PROMPT, Guest, NEIGHBOUR, QUIET, SUITE, as_much_is_free, ask, four, free, next, off};
use crate::{
    context::log_file,
    outside,
    pattern::{Pattern, said_by},
    scenario::{Step, domain},
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, ensure};
use boot_archive::WhenAllStopped;
use std::{fs, path::Path, process::Command, time::Duration};
use xtask::{
    debian,
    machine::{DOM0, Machine, Memory, Overrides},
    paths,
    qemu::DEBUG_EXIT_PORT,
    step,
};

/// The machine file.
const FILE: &str = "machines/debian-root.toml";
/// Its guest, and what its shell asks with.
const NAME: &str = "debian";
const PROMPT: &str = "root@debian:~# ";
/// The time that a machine has.
const LIMIT: Duration = Duration::from_secs(3600);

/// What the guest fetches from the host: each MiB of it is another.
const FETCHED: u32 = 3 << 20;
/// A file of its own, which is there after a reboot.
const KEPT: &str = "/root/kept";

/// It starts all its services, works with its disk and network, and is all there when it comes again.
pub fn test() -> Test {
    let log = log_file(&format!("{SUITE}/root"));
    Test::machine(SUITE, "root".to_owned(), move |context| {
        if let Some(skipped) = Guest::SMALL.is_missing() {
            return Ok(skipped);
        }
        if let Err(reason) = debian::root(debian::RELEASES[0]) {
            return Ok(Ending::Skipped(format!("no root file system of Debian's: {reason:#}")));
        }
        let page: Vec<u8> = (0..FETCHED).map(|at| (at ^ at >> 8 ^ at >> 20).to_le_bytes()[0]).collect();
        let page_file = log.with_extension("page");
        fs::create_dir_all(log.parent().context("a log in no folder")?)?;
        fs::write(&page_file, &page)?;
        let sum = checksum(&page_file)?;
        fs::remove_file(&page_file)?;
        let port = outside::serve(page)?;
        four::play(context, &machine()?, &log, LIMIT, |take| {
            take(booted())?;
            take(services())?;
            take(disk_and_network(port, &sum))?;
            take(again(&sum))?;
            whole(&log.with_extension("disks").join("root.img"))
        })?;
        Ok(Ending::Passed)
    })
}

/// The machine of the file, and a neighbour, which keeps it running.
fn machine() -> Result<Machine> {
    let mut machine = Machine::load(&paths::root().join(FILE), Overrides::default())?;
    machine.when_all_stopped = WhenAllStopped::DebugExit(DEBUG_EXIT_PORT);
    let [port] = outside::free_ports();
    machine.network.as_mut().context("no network")?.forwards[0].host = port;
    machine.domains.push(domain(NEIGHBOUR, "demo", "name=rust", Memory::mib(16)));
    Ok(machine)
}

/// Asks for something, which it says in a line of its own before it asks again.
fn told(line: &str, expression: &str) -> [Step; 2] {
    ask(line, vec![said_by(NAME, expression), PROMPT.into()])
}

/// Has the shell say nothing to a terminal before and after each line.
fn plain() -> [Step; 2] {
    ask("bind 'set enable-bracketed-paste off'", vec![PROMPT.into()])
}

fn booted() -> Vec<Step> {
    let found: Vec<Pattern> = vec![
        said_by(NAME, r".*Detected virtualization xen.*"),
        said_by(NAME, r".*Welcome to .*Debian GNU/Linux 12 \(bookworm\).*"),
        PROMPT.into(),
    ];
    vec![Step::Expect(found)]
}

/// All that systemd starts has started, and nothing has failed.
fn services() -> Vec<Step> {
    let steps = [
        plain(),
        told(QUIET, "quiet"),
        told("systemctl is-system-running --wait", "running"),
        told("systemctl --failed --no-legend --plain | wc -l", "0"),
        told("systemctl is-active ifup@eth0 systemd-udevd dbus | uniq -c | tr -s ' '", " 3 active"),
        told("cat /etc/debian_version", r"12\.\d+"),
        told("apt-get -qq check && dpkg --audit && echo sound", "sound"),
    ];
    steps.concat()
}

/// Its disk is as large as the machine file says; what it gets from the host is what the host gave, and on the disk, too.
fn disk_and_network(port: u16, sum: &str) -> Vec<Step> {
    let steps = [
        told("findmnt -n -o SOURCE,FSTYPE /", "/dev/xvda +ext4"),
        told("echo $(($(stat -f -c '%b * %S' /) >> 20 > 1800))", "1"),
        told("ip -4 -o addr show eth0", r"2: eth0 +inet 10\.0\.2\.15/24 .*"),
        told("ping -q -c 3 10.0.2.2", "3 packets transmitted, 3 received, 0% packet loss, .*"),
        told(&format!("wget -q -O {KEPT} http://10.0.2.2:{port}/ && echo fetched"), "fetched"),
        told(&format!("sha256sum <{KEPT}"), &format!("{sum}  -")),
        told(&format!("dmesg | grep -cE '{COMPLAINTS}'"), "0"),
    ];
    steps.concat()
}

/// It powers itself off and comes again, with its file; when it has powered itself off again, as much memory is free as
/// before.
fn again(sum: &str) -> Vec<Step> {
    let steps = [
        off(NAME, 1).to_vec(),
        [next(NEIGHBOUR), next(DOM0)].concat(),
        free().to_vec(),
        ask(&format!("create {NAME}"), vec![said_by(DOM0, &format!(r"d3 \({NAME}\): .*")), DOM0_PROMPT.into()])
            .to_vec(),
        ask(&format!("console {NAME}"), vec![PROMPT.into()]).to_vec(),
        plain().to_vec(),
        told("systemctl is-system-running --wait", "running").to_vec(),
        told(&format!("sha256sum <{KEPT}"), &format!("{sum}  -")).to_vec(),
        told(&format!("dmesg | grep -cE '{COMPLAINTS}'"), "0").to_vec(),
        off(NAME, 3).to_vec(),
        [next(NEIGHBOUR), next(DOM0)].concat(),
        free().to_vec(),
        vec![Step::check(as_much_is_free)],
    ];
    steps.concat()
}

/// The file system on the disk was left as one that needs no repair, and has no mistakes.
fn whole(image: &Path) -> Result<()> {
    step::run("checking the root file system", Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(image))
}

fn checksum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output().context("cannot run sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = text.split(' ').next().unwrap_or_default();
    ensure!(sum.len() == 64, "sha256sum says {text:?}");
    Ok(sum.to_owned())
}
