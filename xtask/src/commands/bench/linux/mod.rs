//! The group `linux`: what the everyday operations of a Linux process cost, with Debian's kernel as a guest of Pavise;
//! beside it as Xen's first domain, and without a hypervisor.
//!
//! The program `linux-bench` is the kernel's first and only one, and counts them. The kernel's own clock tells how long
//! its start took.

mod chart;
mod system;

pub use chart::chart;

use super::{
    bars::{self, Bar, Verdict},
    report::{Cost, Row, Share, grouped},
};
use crate::{debian::KernelPackage, initramfs::Extra, xen::Xen};
use anyhow::{Context, Result, ensure};
use system::System;

/// The group's name.
const GROUP: &str = "linux";

/// The program.
pub const PROGRAM: &str = "linux-bench";

/// What its lines begin with, and its last one.
const MARK: &str = "linux-bench: ";
const DONE: &str = "linux-bench: done";

/// What the kernel says behind its clock when it has started.
const STARTED: &str = "] Run /bin/linux-bench as init process";

/// Measures, with Xen and without a hypervisor too if asked for, adds the rows, and prints the table; says whether the
/// bars are held.
///
/// # Errors
/// When a package can't be fetched, or a build or a run fails.
pub fn measure(xen: Option<&Xen>, rows: &mut Vec<Row>) -> Result<bool> {
    let package = KernelPackage::get(system::KERNEL)?;
    let program = crate::build::linux_program(PROGRAM)?;
    let extras = [Extra { to: format!("bin/{PROGRAM}"), from: program }];
    let others = xen.map(|xen| [System::Xen(xen), System::Native]);
    let systems = [System::Pavise].into_iter().chain(others.into_iter().flatten());
    // They don't know of each other, nor of real time.
    let started = systems.map(|system| Ok((system, system.boot(&package, &extras)?))).collect::<Result<Vec<_>>>()?;
    let counted = started.into_iter().map(|(system, session)| {
        eprintln!("- measuring {GROUP}: {}", system.name());
        let done = session.wait_until(|text| text.contains(DONE).then(|| all_counts(text)));
        let ended = || format!("{PROGRAM} did not come to its end; {}", session.last_words());
        done.with_context(ended)?.with_context(|| format!("{}; {}", system.name(), session.last_words()))
    });
    let counted = counted.collect::<Result<Vec<_>>>()?;

    let mut all_held = true;
    println!("{}", head(xen.is_some()));
    for (index, bar) in bars::LINUX.iter().enumerate() {
        let cost = |system: usize| Some(Cost { instructions: counted.get(system)?[index], flushes: None });
        let row = Row { group: GROUP, name: bar.name.to_owned(), pavise: cost(0), xen: cost(1), native: cost(2) };
        let (line, verdict) = line(bar, &row);
        println!("{line}");
        all_held &= verdict != Verdict::Broken;
        rows.push(row);
    }
    Ok(all_held)
}

/// What a guest says, as counts in the order of the bars.
fn all_counts(output: &str) -> Result<Vec<u64>> {
    Ok([vec![start(output)?], counts(output)?].concat())
}

/// The time when the kernel started its first program, by its own clock.
fn start(output: &str) -> Result<u64> {
    let seconds = output.lines().find_map(|line| Some(line.split_once(STARTED)?.0.rsplit_once('[')?.1.trim()));
    let seconds = seconds.with_context(|| format!("Linux didn't say \"{STARTED}\""))?;
    let parse = || {
        let (whole, micros) = seconds.split_once('.')?;
        // One instruction is one nanosecond.
        Some(whole.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000)
    };
    parse().with_context(|| format!("\"{seconds}\" is no time of Linux's"))
}

/// The counts of the program, in the order of the bars, which begin with one that isn't the program's.
///
/// # Errors
/// When it has other rows than there are bars.
pub fn counts(output: &str) -> Result<Vec<u64>> {
    let counted = output.lines().filter_map(|line| line.split_once(MARK)?.1.trim_end().rsplit_once(' '));
    let (names, counted): (Vec<_>, Vec<_>) = counted.unzip();
    ensure!(
        names.iter().eq(bars::LINUX.iter().skip(1).map(|bar| &bar.name)),
        "the rows of {PROGRAM} are not those that there are bars for: {names:?}"
    );
    counted.iter().map(|count| count.parse().with_context(|| format!("\"{count}\" is no count"))).collect()
}

fn head(beside_others: bool) -> String {
    let others = if beside_others { format!("{:>15}{:>7}{:>15}", "Xen", "ratio", "native") } else { String::new() };
    format!("\n{:<44}{:>15}{others}{:>15}", "linux, 1 vCPU, 1 GiB, per operation", "Pavise", "bar")
}

/// A line of the table, and how the row does.
fn line(bar: &Bar, row: &Row) -> (String, Verdict) {
    let [pavise, xen, native] = [row.pavise, row.xen, row.native].map(|cost| cost.map(|cost| cost.instructions));
    let shown = |count: Option<u64>| count.map(grouped).unwrap_or_default();
    let mut text = format!("  {:<42}{:>15}", bar.name, shown(pavise));
    if let (Some(pavise), Some(xen)) = (pavise, xen) {
        let ratio = Share { count: pavise, operations: xen.max(1) }.decimal();
        text += &format!("{:>15}{ratio:>7}{:>15}", grouped(xen), shown(native));
    }
    let verdict = Verdict::of(bar.now.instructions(xen, None), bar.aim, pavise);
    (format!("{text}{:>15}  {}", bar.now.shown(xen, None), verdict.word()), verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest says whose program counts 1000 for its first row and 1 more for each after that.
    fn output(console: &str) -> String {
        let names = bars::LINUX[1..].iter().zip(1000..);
        let lines = names.map(|(bar, count)| format!("{console}{MARK}{} {count}\r\n", bar.name));
        let started = format!("{console}[    3.655561{STARTED}\r\n{console}[    3.7] more\r\n");
        started + &lines.collect::<String>() + console + DONE + "\n"
    }

    #[test]
    fn counts_are_found_on_either_console() {
        for console in ["", "(debian) "] {
            let counts = all_counts(&output(console)).unwrap();
            assert_eq!(counts.len(), bars::LINUX.len());
            assert_eq!(counts[..3], [3_655_561_000, 1000, 1001]);
        }
    }

    #[test]
    fn a_row_that_fails_is_told() {
        let output = output("").replace("getppid 1000", "getppid failed: ENOSYS");
        assert!(counts(&output).unwrap_err().to_string().contains("getppid failed"));
        assert!(all_counts(DONE).unwrap_err().to_string().contains("as init process"));
        assert!(start(&format!("[ 1 s{STARTED}")).unwrap_err().to_string().contains("1 s"));
    }

    /// Rows of three systems: each count is Xen's with this share of it on Pavise and without a hypervisor, in percent.
    fn rows(pavise: u64, native: u64) -> Vec<Row> {
        let cost = |instructions| Some(Cost { instructions, flushes: None });
        let row = |bar: &Bar| Row {
            group: GROUP,
            name: bar.name.to_owned(),
            pavise: cost(10 * pavise),
            xen: cost(1000),
            native: cost(10 * native),
        };
        bars::LINUX.iter().map(row).collect()
    }

    #[test]
    fn lines_have_ratio_and_verdict() {
        let verdicts = |percent| {
            let judged = bars::LINUX.iter().zip(rows(percent, 40)).map(|(bar, row)| line(bar, &row).1);
            judged.collect::<Vec<_>>()
        };
        assert!(verdicts(70).iter().all(|verdict| *verdict == Verdict::Held));
        let broken = |percent| verdicts(percent).iter().filter(|verdict| **verdict == Verdict::Broken).count();
        // At 71 % of Xen: `getppid`, whose bar is a number, and the five that have to be at 70 %.
        assert_eq!((broken(71), broken(101)), (6, bars::LINUX.len() - 1));
        let (text, _) = line(&bars::LINUX[2], &rows(71, 40)[2]);
        let words: Vec<_> = text.split_whitespace().rev().take(5).collect();
        assert_eq!(words, ["held", "400", "0.71", "000", "1"]);
    }

    #[test]
    fn files_have_all_rows() {
        let rows = rows(62, 40);
        let json: serde_json::Value = serde_json::from_str(&super::super::report::json(&rows).unwrap()).unwrap();
        let chart = chart(&rows).unwrap();
        assert!(chart.starts_with("<svg") && chart.contains("Xen"));
        for (bar, row) in bars::LINUX.iter().zip(json.as_array().unwrap()) {
            assert_eq!((row["group"].as_str(), row["name"].as_str()), (Some(GROUP), Some(bar.name)));
            let counts = ["instructions", "xen", "native"].map(|system| row[system].as_u64());
            assert_eq!(counts, [Some(620), Some(1000), Some(400)]);
            assert!(chart.contains(bar.name), "{}", bar.name);
        }
        assert_eq!(json.as_array().unwrap().len(), bars::LINUX.len());
        assert_eq!(chart.matches("0.62").count(), bars::LINUX.len());
    }
}
