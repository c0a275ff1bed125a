//! Domains as a table of text. Pure.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use pv_abi::domctl::{DomainInfoFlags, GetDomainInfo};

use super::life::Ending;
use super::traffic::{PerSecond, Traffic};

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// What the hypervisor says of it, if it is there.
    pub info: Option<GetDomainInfo>,
    /// How it ended the last time.
    pub last: Option<Ending>,
    /// What it used lately.
    pub used: Option<Used>,
}

/// What a domain used in a span of time.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// The span, in nanoseconds.
    pub span: u64,
    /// CPU time, in nanoseconds.
    pub cpu: u64,
    /// Bytes of its devices.
    pub traffic: Traffic,
}

/// The table with its heading: what the domains are, or (`top`) what each used lately.
pub fn table(rows: &[Row<'_>], top: bool) -> String {
    let width = rows.iter().map(|row| row.name.len()).chain([4]).max().unwrap_or(4);
    let mut text = format!("{:width$}     ID", "name");
    text.push_str(if top { "" } else { "  vCPUs" });
    text.push_str("    memory   CPU time");
    text.push_str(if top { "     CPU  disk read   written    net in   net out  state\n" } else { "  state\n" });
    for row in rows {
        let _ = write!(text, "{:width$}  ", row.name);
        match &row.info {
            Some(info) => _ = write!(text, "{:5}", info.domain),
            None => text.push_str("    -"),
        }
        if !top {
            match &row.info {
                Some(info) => _ = write!(text, "  {:5}", info.nr_online_vcpus),
                None => text.push_str("      -"),
            }
        }
        match &row.info {
            Some(info) => _ = write!(text, "  {:4} MiB  {}", info.tot_pages >> 8, Seconds(info.cpu_time)),
            None => text.push_str("         -          -"),
        }
        if top {
            used(&mut text, row.used);
        }
        let _ = writeln!(text, "  {}", state(row));
    }
    text
}

/// The columns about what was used lately.
fn used(text: &mut String, used: Option<Used>) {
    match used {
        Some(Used { span, cpu, traffic }) if span > 0 => {
            let Traffic { read, written, received, sent } = traffic;
            let _ = write!(text, "  {:4} % ", permille(cpu, span).div_ceil(10));
            for bytes in [read, written, received, sent] {
                let _ = write!(text, "  {:>8}", PerSecond(bytes, span));
            }
        }
        _ => text.push_str("       -          -         -         -         -"),
    }
}

/// Thousandths, rounded down.
fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// Nanoseconds, as seconds with three decimals.
struct Seconds(u64);

impl core::fmt::Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:3}.{:03} s", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

fn state(row: &Row<'_>) -> String {
    let Some(info) = &row.info else {
        return row.last.map_or_else(|| String::from("not created"), |last| format!("{last}"));
    };
    let has = |flag: DomainInfoFlags| info.flags & flag.bits() != 0;
    String::from(match () {
        () if has(DomainInfoFlags::DYING) => "dying",
        () if has(DomainInfoFlags::SHUTDOWN) => "has shut down",
        () if has(DomainInfoFlags::PAUSED) => "paused",
        () if has(DomainInfoFlags::BLOCKED) => "sleeps",
        () => "runs",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let running = GetDomainInfo {
            domain: 12,
            tot_pages: 8192,
            cpu_time: 1_234_567_890,
            nr_online_vcpus: 2,
            ..GetDomainInfo::default()
        };
        let paused = GetDomainInfo { flags: DomainInfoFlags::PAUSED.bits(), ..running };
        let traffic = Traffic { read: 3 << 20, written: 512 << 10, received: 1, sent: 0 };
        let used = Used { span: 1_000_000_000, cpu: 250_000_000, traffic };
        let rows = [
            Row { name: "alpha-long", info: Some(running), last: None, used: Some(used) },
            Row { name: "b", info: Some(paused), last: Some(Ending::Reboot), used: None },
            Row { name: "c", info: None, last: Some(Ending::Crash), used: None },
            Row { name: "d", info: None, last: None, used: None },
        ];
        assert_eq!(
            table(&rows, false),
            "name           ID  vCPUs    memory   CPU time  state\n\
             alpha-long     12      2    32 MiB    1.234 s  runs\n\
             b              12      2    32 MiB    1.234 s  paused\n\
             c               -      -         -          -  crashed\n\
             d               -      -         -          -  not created\n"
        );
        assert_eq!(
            table(&rows[..3], true),
            "name           ID    memory   CPU time     CPU  disk read   written    net in   net out  state\n\
             alpha-long     12    32 MiB    1.234 s    25 %    3.0 M/s   512 K/s     1 K/s         0  runs\n\
             b              12    32 MiB    1.234 s       -          -         -         -         -  paused\n\
             c               -         -          -       -          -         -         -         -  crashed\n"
        );
    }
}
