//! `./x bench`: what things cost, in instructions.
//!
//! QEMU runs with `-icount shift=0`: one instruction takes one virtual nanosecond, the TSC counts them at 1 GHz, and
//! figures repeat exactly. Counts are instructions, not cycles.

use super::prepare;
use crate::{
    build::Built,
    image::Imager,
    machine::{Domain, Firmware, Kernel, Machine, Memory},
    paths,
    qemu::{Accel, COUNTING_CPU, Hardware, Session},
};
use anyhow::{Context, Result, bail, ensure};
use boot_archive::{LogLevel, WhenAllStopped};
use clap::{Args, ValueEnum};
use std::{fmt::Write, fs, path::PathBuf, time::Duration};

/// Most instructions from the hypervisor's entry to the first guest instruction, at 512 MiB.
const BOOT_BAR: u64 = 30_000_000;

/// Largest stripped hypervisor ELF file, in bytes.
const SIZE_BAR: u64 = 600 << 10;

/// What the hypervisor prints, at level debug, for each phase of its boot, before its name and how long it took on the
/// TSC.
const PHASE_MARK: &str = "boot-phase: ";

/// Time for one run.
const LIMIT: Duration = Duration::from_secs(180);

/// Count the instructions of operations
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to count [default: everything]
    group: Option<Group>,
    /// Write the rows to this file too, as a list of JSON objects
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run the same on this hypervisor and print the ratio
    #[arg(long)]
    against: Option<Rival>,
}

/// Groups of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// From the hypervisor's entry to the first guest instruction, and the size of its file
    Boot,
}

/// What Pavise can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Debian's Xen
    Xen,
}

/// One figure.
struct Row {
    group: &'static str,
    name: String,
    value: u64,
}

/// Does it.
///
/// # Errors
/// When a build or a run fails, or a bar is broken.
pub fn bench(args: &BenchArgs) -> Result<()> {
    if args.against.is_some() {
        bail!("the group `boot` has no counterpart on Xen, so --against has nothing to compare");
    }
    let mut machine = Machine::empty();
    machine.cpu = COUNTING_CPU.to_owned();
    machine.log_level = LogLevel::Debug;
    machine.when_all_stopped = WhenAllStopped::DebugExit(crate::qemu::DEBUG_EXIT_PORT);
    machine.domains.push(Domain {
        name: "alpha".to_owned(),
        kernel: Kernel::Built("demo".to_owned()),
        ramdisk: None,
        command_line: "name=alpha".to_owned(),
        memory: Memory::mib(32),
        vcpus: 1,
    });
    let (built, imager, archive) = prepare(&machine)?;

    let mut rows = Vec::new();
    let small = count_boot(&machine, &imager, &archive, Memory::mib(512), &mut rows)?;
    count_boot(&machine, &imager, &archive, Memory::gib(4), &mut rows)?;
    let size = measure_size(&built, &mut rows)?;
    if let Some(file) = &args.json {
        fs::write(file, json(&rows)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!();
    let held = [bar("instructions at 512 MiB", small, BOOT_BAR), bar("bytes of stripped hypervisor", size, SIZE_BAR)];
    ensure!(held == [true; 2], "a bar is broken");
    Ok(())
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
        rows.push(Row { group: "boot", name: format!("{name} at {memory}"), value: *value });
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
    rows.push(Row { group: "boot", name: "stripped hypervisor, bytes".to_owned(), value: size });
    Ok(size)
}

/// Prints how far a bar is held; says whether it is.
fn bar(what: &str, value: u64, most: u64) -> bool {
    let held = value <= most;
    let word = if held { "held" } else { "BROKEN" };
    println!("bar {word}: {} {what}, at most {} ({} %)", grouped(value), grouped(most), value * 100 / most);
    held
}

/// A number with its thousands apart.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The rows as JSON. Names are our own and need no escapes beyond Rust's.
fn json(rows: &[Row]) -> String {
    let mut text = String::from("[");
    for (i, Row { group, name, value }) in rows.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\n  {{\"group\": {group:?}, \"name\": {name:?}, \"instructions\": {value}}}");
    }
    text.push_str("\n]\n");
    text
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

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 30_000_000].map(grouped), ["0", "999", "1 000", "30 000 000"]);
    }

    #[test]
    fn rows_become_json() {
        let row = Row { group: "boot", name: "total".to_owned(), value: 7 };
        assert_eq!(json(&[row]), "[\n  {\"group\": \"boot\", \"name\": \"total\", \"instructions\": 7}\n]\n");
    }
}
