//! The group `boot`: from the hypervisor's entry to the first guest instruction, and the size of its file.

use super::{
    LIMIT,
    report::{Cost, Row, grouped},
};
use crate::{
    build::Built,
    commands::prepare,
    image::Imager,
    machine::{Domain, Firmware, Kernel, Machine, Memory},
    paths,
    qemu::{Accel, COUNTING_CPU, Hardware},
    session::Session,
};
use anyhow::{Result, ensure};
use boot_archive::{LogLevel, Scheduling, WhenAllStopped};
use std::fs;

/// Most instructions from the hypervisor's entry to the first guest instruction, at 512 MiB.
const BOOT_BAR: u64 = 30_000_000;

/// Largest stripped hypervisor ELF file, in bytes.
const SIZE_BAR: u64 = 600 << 10;

/// What the hypervisor prints, at level debug, for each phase of its boot, before its name and how long it took on the
/// TSC.
const PHASE_MARK: &str = "boot-phase: ";

/// Boots with little and with much memory, and prints the tables; says whether the bars are held.
///
/// # Errors
/// When a build or a run fails.
pub fn measure(rows: &mut Vec<Row>) -> Result<bool> {
    let mut machine = Machine::empty();
    machine.cpu = COUNTING_CPU.to_owned();
    machine.log_level = LogLevel::Debug;
    machine.when_all_stopped = WhenAllStopped::DebugExit(crate::qemu::DEBUG_EXIT_PORT);
    machine.domains.push(Domain {
        name: "alpha".to_owned(),
        kernel: Kernel::Built("demo".to_owned()),
        control: false,
        ramdisk: None,
        command_line: "name=alpha".to_owned(),
        memory: Memory::mib(32),
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    });
    let (built, imager, archive) = prepare(&machine)?;

    let small = count_boot(&machine, &imager, &archive, Memory::mib(512), rows)?;
    count_boot(&machine, &imager, &archive, Memory::gib(4), rows)?;
    let size = measure_size(&built, rows)?;
    println!();
    let held = [bar("instructions at 512 MiB", small, BOOT_BAR), bar("bytes of stripped hypervisor", size, SIZE_BAR)];
    Ok(held == [true; 2])
}

/// Boots once and prints the table of phases; returns the total.
fn count_boot(machine: &Machine, imager: &Imager, archive: &[u8], memory: Memory, rows: &mut Vec<Row>) -> Result<u64> {
    let folder = paths::target().join("bench");
    let image = folder.join("boot.img");
    imager.make(Firmware::Bios, archive, &image)?;
    let mut hardware = Hardware::of(machine, Accel::Tcg);
    hardware.memory = memory;
    hardware.icount = true;
    let log = folder.join(format!("boot-{}.log", memory.as_mib()));
    let session = Session::start(&hardware.boot_image(&image)?, &log, LIMIT)?;
    // The hypervisor reports its phases before it starts the guest.
    session.wait_for("Hello from alpha")?;

    let phases = phases(&session.text())?;
    println!("\n{:<38}{:>14}", format!("boot at {memory}, 1 CPU"), "instructions");
    let total = ("total".to_owned(), phases.iter().map(|(_, value)| value).sum());
    for (name, value) in phases.iter().chain([&total]) {
        println!("  {name:<36}{:>14}", grouped(*value));
        rows.push(Row {
            group: "boot",
            name: format!("{name} at {memory}"),
            pavise: cost(*value),
            xen: None,
            native: None,
        });
    }
    Ok(total.1)
}

/// The phases in the log, each with its length: at least one.
fn phases(log: &str) -> Result<Vec<(String, u64)>> {
    let lines = log.lines().filter_map(|line| Some(line.split_once(PHASE_MARK)?.1));
    let phases: Vec<_> = lines
        .filter_map(|line| {
            let (name, ticks) = line.trim().rsplit_once(' ')?;
            Some((name.trim().to_owned(), ticks.parse().ok()?))
        })
        .collect();
    ensure!(!phases.is_empty(), "the hypervisor's log has no line \"{PHASE_MARK}NAME TICKS\"");
    Ok(phases)
}

fn measure_size(built: &Built, rows: &mut Vec<Row>) -> Result<u64> {
    let size = fs::metadata(&built.hypervisor_stripped)?.len();
    let name = "stripped hypervisor, bytes".to_owned();
    rows.push(Row { group: "boot", name, pavise: cost(size), xen: None, native: None });
    Ok(size)
}

fn cost(instructions: u64) -> Option<Cost> {
    Some(Cost { instructions, flushes: None })
}

/// Prints how far a bar is held; says whether it is.
fn bar(what: &str, value: u64, most: u64) -> bool {
    let held = value <= most;
    let word = if held { "held" } else { "BROKEN" };
    println!("bar {word}: {} {what}, at most {} ({} %)", grouped(value), grouped(most), value * 100 / most);
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_from_the_log() {
        let log = "[0.1] boot-phase: cpu 100\nnoise\nboot-phase: page tables 350\r\nboot-phase: bad x\n";
        assert_eq!(phases(log).unwrap(), [("cpu".to_owned(), 100), ("page tables".to_owned(), 350)]);
        assert!(phases("nothing\n").is_err());
    }
}
