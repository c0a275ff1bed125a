//! Hypercalls and copies of a whole machine, by QEMU's execution log with registers (`-d exec,cpu`).
//!
//! Hypercalls are seen where the hypervisor's stub for `syscall` leads, with their number in RAX and their command in RDI. What
//! is copied, by hypervisor and control domain, is seen at the `rep movs` instructions: QEMU executes each step of one as a
//! block of its own, with what is left in RCX.

use super::super::code;
use anyhow::{Context, Result, ensure};
use elf::{ElfBytes, endian::LittleEndian};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
};

/// What is in RDI at the bench guest's marks. Other domains may have other code at those addresses.
const MARK: u64 = u64::from_be_bytes(*b"PvsBench");

/// Numbers of hypercalls, and of a command (`pv_abi::hypercall`, `pv_abi::grant`).
const GRANT_TABLE_OP: u64 = 20;
const GNTTABOP_COPY: u64 = 5;
const NAMES: [(u64, &str); 9] = [
    (12, "memory_op"),
    (17, "xen_version"),
    (18, "console_io"),
    (20, "grant_table_op"),
    (23, "iret"),
    (24, "vcpu_op"),
    (29, "sched_op"),
    (32, "event_channel_op"),
    (33, "physdev_op"),
];

/// Addresses to look at.
pub struct Sites {
    /// The bench guest's marks.
    begin: u64,
    end: u64,
    /// Where each hypercall comes by.
    entry: u64,
    /// `rep movs`, with the bytes of a step: the hypervisor's, and the control domain's.
    hypervisor: BTreeMap<u64, u64>,
    dom0: BTreeMap<u64, u64>,
}

impl Sites {
    /// Those in these files. Without `dom0`, copies are not looked at.
    ///
    /// # Errors
    /// When a file is no ELF file, or lacks a symbol.
    pub fn find(hypervisor: &[u8], guest: &[u8], dom0: Option<&[u8]>) -> Result<Sites> {
        let copies = |file: Option<&[u8]>| file.map_or(Ok(BTreeMap::new()), copies);
        Ok(Sites {
            begin: code::symbol(guest, "bench_begin")?,
            end: code::symbol(guest, "bench_end")?,
            entry: entry(hypervisor)?,
            hypervisor: copies(dom0.map(|_| hypervisor))?,
            dom0: copies(dom0)?,
        })
    }

    /// All of them, as `-dfilter` takes them.
    pub fn filter(&self) -> String {
        let copies = self.hypervisor.keys().chain(self.dom0.keys());
        let all = [self.begin, self.end, self.entry].into_iter().chain(copies.copied());
        all.map(|address| format!("{address:#x}+1")).collect::<Vec<_>>().join(",")
    }
}

/// Where the stub for `syscall` leads: the function `entry::syscall`.
fn entry(hypervisor: &[u8]) -> Result<u64> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(hypervisor)?;
    let (symbols, names) = elf.symbol_table()?.context("no symbol table")?;
    let is_entry = |name: &str| format!("{:#}", rustc_demangle::demangle(name)).ends_with("arch::entry::syscall");
    let found =
        symbols.iter().find(|symbol| usize::try_from(symbol.st_name).is_ok_and(|at| names.get(at).is_ok_and(is_entry)));
    Ok(found.context("the hypervisor has no entry for hypercalls")?.st_value)
}

/// The places where a `rep movs` could start, with the bytes of a step. Some may lie within other instructions, which does no
/// harm: nothing is executed from there.
fn copies(file: &[u8]) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    for code in code::executable(file, 0)? {
        for (address, at) in (code.start..).zip(0..code.bytes.len()) {
            match code.bytes[at..] {
                [0xf3, 0xa4, ..] => _ = found.insert(address, 1),
                [0xf3, 0x48, 0xa5, ..] => _ = found.insert(address, 8),
                [0xf3, 0xa5, ..] => _ = found.insert(address, 4),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What was called and copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Hypercalls: of the bench guest or of others, number, command.
    calls: BTreeMap<(bool, u64, u64), u64>,
    /// Copies that were asked for with grants.
    pub grant_copies: u64,
    /// Bytes that hypervisor and control domain copied.
    pub copied: u64,
    /// Where they did: in the control domain or the hypervisor, by address.
    places: BTreeMap<(bool, u64), u64>,
}

impl Calls {
    /// All hypercalls.
    pub fn hypercalls(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Where most was copied: in the control domain or the hypervisor, address, bytes.
    pub fn places(&self) -> Vec<(bool, u64, u64)> {
        let mut places: Vec<_> = self.places.iter().map(|((dom0, address), bytes)| (*dom0, *address, *bytes)).collect();
        places.sort_by_key(|(.., bytes)| u64::MAX - bytes);
        places.truncate(4);
        places
    }

    /// Which hypercalls, and how many of each.
    pub fn list(&self) -> impl Iterator<Item = (String, u64)> {
        self.calls.iter().map(|((is_guest, number, command), count)| {
            let name = NAMES.iter().find(|(known, _)| known == number).map_or("hypercall", |(_, name)| name);
            let who = if *is_guest { "guest" } else { "others" };
            (format!("{who}: {name} ({number}), command {command}"), *count)
        })
    }
}

/// A block that was executed, and registers before it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    address: u64,
    rax: u64,
    rcx: u64,
    rdx: u64,
    rdi: u64,
    cr3: u64,
}

/// What happened between the marks, for each pair of them.
///
/// # Errors
/// When the log can't be read, or a pair is not whole.
pub fn read(sites: &Sites, log: impl Read) -> Result<Vec<Calls>> {
    let mut stretches = Vec::new();
    let mut open: Option<(u64, Calls)> = None;
    // The last step of a copy: where, how many were left, whose.
    let mut last = (0, 0, 0);
    entries(log, |entry| {
        let Entry { address, rax, rcx, rdx, rdi, cr3 } = entry;
        if address == sites.begin && rdi == MARK {
            open = Some((cr3, Calls::default()));
        } else if address == sites.end && rdi == MARK {
            stretches.extend(open.take().map(|(_, calls)| calls));
        } else if let Some((guest, calls)) = &mut open {
            let dom0 = sites.dom0.get(&address).filter(|_| cr3 != *guest);
            if address == sites.entry {
                let (number, command) = (rax & 0xffff_ffff, rdi & 0xffff_ffff);
                *calls.calls.entry((cr3 == *guest, number, command)).or_default() += 1;
                if (number, command) == (GRANT_TABLE_OP, GNTTABOP_COPY) {
                    calls.grant_copies += rdx;
                }
            } else if let Some(bytes) = sites.hypervisor.get(&address).or(dom0) {
                // The first step is part of the block before; one more block finds that nothing is left.
                if last != (address, rcx + 1, cr3) {
                    calls.copied += (rcx + 1) * bytes;
                    *calls.places.entry((dom0.is_some(), address)).or_default() += (rcx + 1) * bytes;
                }
                last = (address, rcx, cr3);
            }
        }
    })?;
    ensure!(open.is_none(), "the execution log stops within a stretch");
    Ok(stretches)
}

/// Gives `each` what was executed, in order.
fn entries(log: impl Read, mut each: impl FnMut(Entry)) -> Result<()> {
    let mut log = BufReader::new(log);
    let (mut line, mut entry) = (Vec::new(), None::<Entry>);
    while log.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if text.starts_with("Trace ") {
            entry.take().into_iter().for_each(&mut each);
            let address = text.split('/').nth(1).and_then(|text| u64::from_str_radix(text, 16).ok());
            entry = address.map(|address| Entry { address, ..Entry::default() });
        } else if text.starts_with("Stopped execution") {
            // An interrupt came first; it will be executed later.
            entry = None;
        } else if let Some(entry) = &mut entry {
            for word in text.split_ascii_whitespace() {
                let Some((name, value)) = word.split_once('=') else { continue };
                let place = match name {
                    "RAX" => &mut entry.rax,
                    "RCX" => &mut entry.rcx,
                    "RDX" => &mut entry.rdx,
                    "RDI" => &mut entry.rdi,
                    "CR3" => &mut entry.cr3,
                    _ => continue,
                };
                *place = u64::from_str_radix(value, 16).with_context(|| format!("the log says {word}"))?;
            }
        }
        line.clear();
    }
    entry.into_iter().for_each(each);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: Sites =
        Sites { begin: 0x10, end: 0x20, entry: 0x30, hypervisor: BTreeMap::new(), dom0: BTreeMap::new() };

    fn block(address: u64, [rax, rcx, rdx, rdi, cr3]: [u64; 5]) -> String {
        format!(
            "Trace 0: 0x7fed008e7980 [0000000000000000/{address:016x}/00d0cab0/ff020201] f\n\
             RAX={rax:016x} RBX=0000000000000000 RCX={rcx:016x} RDX={rdx:016x}\n\
             RSI=0000000000000000 RDI={rdi:016x} RBP=0000000000000000 RSP=0000000000000000\n\
             CR0=80050033 CR2=0000000000000000 CR3={cr3:016x} CR4=003006f0\n"
        )
    }

    #[test]
    fn hypercalls_lie_between_marks_of_the_guest() {
        let log = [
            block(0x30, [32, 0, 0, 4, 7]),
            block(0x10, [0, 0, 0, 5, 8]),
            block(0x10, [0, 0, 0, MARK, 7]),
            block(0x30, [32, 0, 0, 4, 7]),
            block(0x30, [20, 0, 9, 5, 8]),
            block(0x30, [20, 0, 9, 5, 8]) + "Stopped execution of TB chain before 0x7fed008e7980 [30] \n",
            block(0x20, [0, 0, 0, MARK, 7]),
        ];
        let seen = read(&SITES, log.concat().as_bytes()).unwrap();
        let calls = BTreeMap::from([((true, 32, 4), 1), ((false, 20, 5), 1)]);
        assert_eq!(seen, [Calls { calls, grant_copies: 9, ..Calls::default() }]);
        assert_eq!(seen[0].hypercalls(), 2);
        assert!(read(&SITES, log[..4].concat().as_bytes()).is_err());
    }

    #[test]
    fn each_step_of_a_copy_is_a_block() {
        let sites = Sites { hypervisor: BTreeMap::from([(0x40, 8)]), dom0: BTreeMap::from([(0x50, 1)]), ..SITES };
        let copy = |address, steps: u64, cr3| {
            (0..steps).rev().map(|left| block(address, [0, left, 0, 0, cr3])).collect::<String>()
        };
        let log = [
            block(0x10, [0, 0, 0, MARK, 7]),
            copy(0x40, 4, 7),
            copy(0x40, 2, 8),
            copy(0x50, 3, 8),
            // The guest has other code there.
            copy(0x50, 3, 7),
            block(0x20, [0, 0, 0, MARK, 7]),
        ];
        assert_eq!(read(&sites, log.concat().as_bytes()).unwrap()[0].copied, 4 * 8 + 2 * 8 + 3);
        assert!(sites.filter().ends_with("0x30+1,0x40+1,0x50+1"));
    }
}
