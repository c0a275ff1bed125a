//! Watches which instructions of a hypervisor the bench guest's operations execute, by QEMU's execution log.
//!
//! The log is switched on when the guest is ready to begin: it would slow down the boot. One instruction per
//! translation block makes it complete, and a filter of addresses keeps it short.

use super::{
    code,
    execution_log::stretches,
    guest::{self, GUEST, Line, Subject},
};
use crate::{build, qemu::Monitor};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::BufReader,
    ops::Range,
};

/// What was executed for a row.
pub struct Watched {
    /// What the guest says of the row: how many operations that was, among others.
    pub line: Line,
    /// The addresses of the executed instructions, in order. None if the hypervisor doesn't do the operation.
    pub executed: Vec<u64>,
}

/// Runs the guest with `options` for rows of `group` and watches the instructions at `addresses`.
///
/// # Errors
/// When the run fails or the log isn't what it should be.
pub fn watch(
    subject: &Subject,
    group: &str,
    options: &str,
    addresses: &[Range<u64>],
    run: &str,
) -> Result<Vec<Watched>> {
    let symbols = build::with_symbols(GUEST);
    let symbols = fs::read(&symbols).with_context(|| format!("cannot read {}", symbols.display()))?;
    let marks = code::symbol(&symbols, "bench_begin")?..code::symbol(&symbols, "bench_end")?;
    let folder = tempfile::tempdir()?;
    let (socket, log) = (folder.path().join("monitor"), folder.path().join("executed"));

    let mut arguments = Monitor::arguments(&socket).to_vec();
    arguments.extend(["-D".to_owned(), log.display().to_string(), "-dfilter".to_owned(), filter(addresses, &marks)]);
    let mut session = subject.boot(group, &format!("{options} wait=1"), &arguments, run)?;
    session.wait_for("bench: ready")?;
    let mut monitor = Monitor::connect(&socket)?;
    monitor.single_instructions()?;
    monitor.command("log exec,nochain")?;
    // Any key will do.
    session.send(" ")?;
    let lines = guest::finish(session)?;

    let log = File::open(&log).context("QEMU wrote no execution log")?;
    let mut stretches = stretches(BufReader::new(log), &marks)?.into_iter();
    let mut watched = Vec::new();
    for line in lines {
        // A row that is refused has no stretch.
        let executed = match line.figure {
            Ok(_) => stretches.next().with_context(|| format!("{} left no trace in the execution log", line.name))?,
            Err(_) => Vec::new(),
        };
        watched.push(Watched { line, executed });
    }
    ensure!(stretches.next().is_none(), "the execution log has more rows than the guest");
    Ok(watched)
}

/// `addresses` and the marks, as `-dfilter` takes them.
fn filter(addresses: &[Range<u64>], marks: &Range<u64>) -> String {
    let marks = [marks.start..marks.start + 1, marks.end..marks.end + 1];
    let ranges =
        addresses.iter().chain(&marks).map(|range| format!("{:#x}+{:#x}", range.start, range.end - range.start));
    ranges.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_the_marks_too() {
        let filter = filter(&[0x1000..0x1010, 0x2000..0x2001], &(0x20..0x24));
        assert_eq!(filter, "0x1000+0x10,0x2000+0x1,0x20+0x1,0x24+0x1");
    }
}
