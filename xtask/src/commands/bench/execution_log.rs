//! QEMU's log of what it executes (`-d exec`), one instruction on each line.

use anyhow::{Result, ensure};
use std::{io::BufRead, ops::Range};

/// The addresses executed between each pair of marks: the instruction at `marks.start` begins a stretch, that at
/// `marks.end` ends it.
///
/// # Errors
/// When the log can't be read, or a stretch has no end.
pub fn stretches(log: impl BufRead, marks: &Range<u64>) -> Result<Vec<Vec<u64>>> {
    let mut stretches = Vec::new();
    let mut open: Option<Vec<u64>> = None;
    for address in addresses(log)? {
        if address == marks.start {
            open = Some(Vec::new());
        } else if address == marks.end {
            stretches.extend(open.take());
        } else if let Some(open) = &mut open {
            open.push(address);
        }
    }
    ensure!(open.is_none(), "the execution log stops within a stretch");
    Ok(stretches)
}

/// All addresses executed, in order.
fn addresses(mut log: impl BufRead) -> Result<Vec<u64>> {
    let mut addresses = Vec::new();
    let mut line = String::new();
    while log.read_line(&mut line)? > 0 {
        match entry(&line) {
            Some(Entry::Executed(address)) => addresses.push(address),
            Some(Entry::NotAfterAll) => drop(addresses.pop()),
            None => {}
        }
        line.clear();
    }
    Ok(addresses)
}

enum Entry {
    /// The instruction at this address is about to be executed.
    Executed(u64),
    /// The last one was put off: an interrupt came first.
    NotAfterAll,
}

/// Reads `Trace CPU: HOST [CS/ADDRESS/FLAGS/FLAGS] SYMBOL`, and `Stopped execution of TB chain before HOST [ADDRESS]`.
fn entry(line: &str) -> Option<Entry> {
    if line.starts_with("Stopped execution") {
        return Some(Entry::NotAfterAll);
    }
    let address = line.strip_prefix("Trace ")?.split('/').nth(1)?;
    u64::from_str_radix(address, 16).ok().map(Entry::Executed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(address: u64) -> String {
        format!("Trace 0: 0x7fed008e7980 [0000000000000000/{address:016x}/00d0cab0/ff020201] f\n")
    }

    #[test]
    fn stretches_lie_between_marks() {
        let log: String = [5, 1, 10, 11, 2, 12, 1, 2, 13].map(trace).concat();
        assert_eq!(stretches(log.as_bytes(), &(1..2)).unwrap(), [vec![10, 11], vec![]]);
        assert!(stretches(trace(1).as_bytes(), &(1..2)).is_err());
    }

    #[test]
    fn an_instruction_that_was_put_off_counts_once() {
        let stopped = "Stopped execution of TB chain before 0x7fed008e7980 [000000000000000a] \n";
        let log = [trace(1), trace(10), stopped.to_owned(), trace(10), trace(2)].concat();
        assert_eq!(stretches(log.as_bytes(), &(1..2)).unwrap(), [[10]]);
    }
}
