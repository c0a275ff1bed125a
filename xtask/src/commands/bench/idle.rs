//! The group `idle`: how often the CPUs of a machine are interrupted whose guests all sleep. Counted in QEMU's log of
//! interrupts, in real time.

use super::{LIMIT, guest::GUEST};
use crate::{
    commands::prepare,
    machine::{Domain, Firmware, Kernel, Machine, Memory},
    paths,
    qemu::{Accel, Hardware, Monitor},
    session::Session,
};
use anyhow::{Context, Result, ensure};
use boot_archive::Scheduling;
use std::{
    fs,
    io::{BufRead, BufReader},
    thread::sleep,
    time::Duration,
};

const CPUS: u32 = 2;
const DOMAINS: u32 = 4;

/// Time to come to rest, and time counted.
const SETTLE: Duration = Duration::from_secs(2);
const COUNTED: Duration = Duration::from_secs(10);

/// Most wake-ups of a CPU per second, when nobody has anything to do.
const BAR: f64 = 1.0;

/// Measures, and prints the table; says whether the bar is held.
///
/// # Errors
/// When a build or a run fails.
pub fn measure() -> Result<bool> {
    let rest = wake_ups("idle=0")?;
    // Without this, a count of nothing would say nothing.
    let one_wakes = wake_ups("idle=10")?;
    let held = rest <= BAR;
    println!("\n{:<38}{:>12}{:>7}", "idle, 2 CPUs, 4 domains", "wake-ups", "bar");
    println!("{:<38}{:>12}", "", "/CPU/s");
    println!("  {:<36}{rest:>12.1}{BAR:>7}  {}", "all asleep, without timers", if held { "held" } else { "BROKEN" });
    println!("  {:<36}{one_wakes:>12.1}", "one sleeps for 10 ms at a time");
    ensure!(one_wakes > rest, "a domain that wakes up all the time does not show in QEMU's log of interrupts");
    Ok(held)
}

/// Wake-ups of a CPU per second, while all domains sleep; `first` is the first one's command line.
fn wake_ups(first: &str) -> Result<f64> {
    let mut machine = Machine::empty();
    machine.cpus = CPUS;
    machine.domains = (0..DOMAINS).map(|number| domain(number, if number == 0 { first } else { "idle=0" })).collect();
    let (_, imager, archive) = prepare(&machine)?;
    let folder = paths::target().join("bench");
    let image = folder.join("idle.img");
    imager.make(Firmware::Bios, &archive, &image)?;
    let temporary = tempfile::tempdir()?;
    let (socket, log) = (temporary.path().join("monitor"), temporary.path().join("interrupts"));
    let mut qemu = Hardware::of(&machine, Accel::Tcg).boot_image(&image)?;
    qemu.args(Monitor::arguments(&socket)).arg("-D").arg(&log);
    let session = Session::start(&qemu, &folder.join("idle.log"), LIMIT)?;
    let asleep = |text: &str| (text.matches("bench: asleep").count() >= DOMAINS as usize).then_some(());
    session.wait_until(asleep).with_context(|| format!("not all domains fall asleep; {}", session.last_words()))?;
    let mut monitor = Monitor::connect(&socket)?;
    sleep(SETTLE);
    monitor.command("log int")?;
    sleep(COUNTED);
    monitor.command("log none")?;
    let log = fs::File::open(&log).context("QEMU wrote no log of interrupts")?;
    let count = BufReader::new(log).lines().map_while(Result::ok).filter(|line| is_interrupt(line)).count();
    Ok(f64::from(u32::try_from(count)?) / COUNTED.as_secs_f64() / f64::from(CPUS))
}

fn domain(number: u32, command_line: &str) -> Domain {
    Domain {
        name: format!("idle{number}"),
        kernel: Kernel::Built(GUEST.to_owned()),
        control: false,
        ramdisk: None,
        command_line: command_line.to_owned(),
        memory: Memory::mib(32),
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    }
}

/// Reads `NUMBER: v=VECTOR e=ERROR i=SOFTWARE cpl=LEVEL ...`: is it an interrupt, and neither an exception nor `int`?
fn is_interrupt(line: &str) -> bool {
    let Some((_, rest)) = line.split_once(": v=") else { return false };
    let mut words = rest.split(' ');
    let vector = words.next().and_then(|vector| u8::from_str_radix(vector, 16).ok());
    vector.is_some_and(|vector| vector >= 32) && words.any(|word| word == "i=0")
}

#[cfg(test)]
mod tests {
    use super::is_interrupt;

    #[test]
    fn interrupts_are_told_from_exceptions() {
        let line =
            |vector: &str, software: u8| format!("    12: v={vector} e=0000 i={software} cpl=0 IP=e008:ffff pc=f");
        assert!(is_interrupt(&line("f0", 0)));
        assert!(!is_interrupt(&line("0e", 0)) && !is_interrupt(&line("80", 1)));
        assert!(!is_interrupt("RAX=0000 v=f0") && !is_interrupt(""));
    }
}
