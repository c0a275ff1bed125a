//! Suite `isolation`: page-table isolation, as on CPUs with Meltdown. What is mapped while a guest runs is looked up in QEMU,
//! and stories of other suites are told with it. CPU models that are exposed are booted in the suite `boot`.

use super::{abi, mmu, sched};
use crate::{
    context::{Context, log_file},
    guest::stories,
    pattern::said_by,
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
    telling::{Shape, judge, tell_on},
};
use anyhow::{Context as _, Result, ensure};
use boot_archive::Xpti;
use std::{collections::BTreeSet, thread::sleep, time::Duration};
use xtask::{
    archive,
    machine::{Machine, Memory},
};

/// The suite.
const SUITE: &str = "isolation";

/// What every run tells: the ways in and out, and changes of the root and of its entries.
const STORIES: [(&str, Shape); 6] = [
    ("smp-root-entries", Shape::SEVERAL),
    ("smp-shootdown", Shape::SEVERAL),
    ("attack-stale-table", Shape::SINGLE),
    ("attack-odd-return-frames", Shape::SINGLE),
    ("attack-debug-mov-ss", Shape::SINGLE),
    ("mmu-ldt-new-root", Shape::SINGLE),
];

/// The hypervisor's addresses, but for the machine-to-physical table, which guests may read.
const HYPERVISOR: std::ops::Range<u64> = 0xffff_8080_0000_0000..0xffff_8800_0000_0000;
const IMAGE: u64 = 0xffff_8180_0000_0000;
const STEP: usize = 4096;
const PAGE: u64 = STEP as u64;

/// Pages of a CPU's block that are mapped: GDT, the first page of each interrupt stack, the stubs of `syscall`, TSS, and the
/// guest's registers.
const BLOCK: [u64; 22] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 18, 21, 24, 27, 29, 31, 63];

/// The tests; with `full`, all stories of the suites that have to do with it.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests(full: bool) -> Result<Vec<Test>> {
    let mut stories: Vec<(String, Shape)> = STORIES.map(|(story, shape)| (story.to_owned(), shape)).into();
    if full {
        for (suite, shape) in [(abi::SUITE, Shape::SINGLE), (mmu::SUITE, Shape::SINGLE), (sched::SUITE, Shape::SEVERAL)]
        {
            stories.extend(stories::of_suite(suite)?.into_iter().map(|story| (story, shape)));
        }
    }
    let told: BTreeSet<_> = stories.iter().map(|(story, _)| story.clone()).collect();
    stories.retain({
        let mut left = told;
        move |(story, _)| left.remove(story)
    });
    let stories = stories.into_iter().map(|(story, shape)| {
        Test::machine(SUITE, story.clone(), move |context| {
            judge(&story, &tell_on(&isolated(Xpti::On), SUITE, &story, shape, context))
        })
    });
    let looks = [
        Test::machine(SUITE, "mapped-for-a-guest", |context| mapped(context, Xpti::On)),
        Test::machine(SUITE, "mapped-without", |context| mapped(context, Xpti::Off)),
        Test::machine(SUITE, "nmi-storm", nmi_storm),
    ];
    Ok(looks.into_iter().chain(stories).collect())
}

fn isolated(xpti: Xpti) -> Machine {
    Machine { xpti, ..machine(Vec::new()) }
}

/// A machine with one CPU, on which a guest is busy all the time.
fn busy(context: &Context, test: &str, xpti: Xpti) -> Result<Running> {
    let domains = vec![domain("busy", "selftest", "story=neighbour", Memory::mib(16))];
    let machine = Machine { domains, ..isolated(xpti) };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let running = Running::boot(context, &machine, &archive, &log_file(&format!("{SUITE}/{test}")), LIMIT)?;
    running.expect(&[said_by("busy", "checking .*")])?;
    Ok(running)
}

/// While a guest runs, of the hypervisor just what the entry needs is mapped; without isolation it is all there.
fn mapped(context: &Context, xpti: Xpti) -> Result<Ending> {
    let running = busy(context, if xpti == Xpti::On { "mapped" } else { "mapped-without" }, xpti)?;
    let (registers, memory) = in_guest(&running)?;
    let found: BTreeSet<u64> = hypervisor_pages(&memory).collect();
    if xpti == Xpti::Off {
        ensure!(found.len() > 10_000, "{} pages of the hypervisor; there is no direct map?", found.len());
        return Ok(Ending::Passed);
    }
    let base = |table: &str| base_of(&registers, table).with_context(|| format!("no {table} in {registers}"));
    let (block, idt) = (base("GDT")?, base("IDT")?);
    let entry: Vec<u64> = (IMAGE..).step_by(STEP).take_while(|page| found.contains(page)).collect();
    ensure!((1..=3).contains(&entry.len()), "{} pages of entry code", entry.len());
    let expected = BLOCK.iter().map(|page| block + page * PAGE).chain([idt]).chain(entry).collect();
    ensure!(found == expected, "found {found:x?}, expected {expected:x?}");
    Ok(Ending::Passed)
}

/// NMIs at any moment of the ways in and out leave guest and hypervisor as they were.
fn nmi_storm(context: &Context) -> Result<Ending> {
    const NMIS: u32 = 300;
    let mut running = busy(context, "nmi-storm", Xpti::On)?;
    for _ in 0..NMIS {
        running.monitor("nmi")?;
    }
    running.type_keys("\r")?;
    running.expect(&[said_by("busy", "VERDICT neighbour pass.*")])?;
    Ok(Ending::Passed)
}

/// Registers and mappings at a moment when the CPU, which is the only one, is in ring 3.
fn in_guest(running: &Running) -> Result<(String, String)> {
    loop {
        running.ask("stop")?;
        let registers = running.ask("info registers")?;
        if registers.contains(" CPL=3 ") {
            return Ok((registers, running.ask("info mem")?));
        }
        running.ask("cont")?;
        sleep(Duration::from_millis(5));
        ensure!(!running.is_late(), "no guest runs; {}", running.last_words());
    }
}

/// The base of a descriptor table, from its line `GDT=     ffff818100000000 0000efff`.
fn base_of(registers: &str, table: &str) -> Option<u64> {
    let line = registers.lines().find_map(|line| line.strip_prefix(&format!("{table}=")))?;
    u64::from_str_radix(line.split_whitespace().next()?, 16).ok()
}

/// The pages of [`HYPERVISOR`] in lines such as `ffff818100000000-ffff81810000f000 000000000000f000 -rw`.
fn hypervisor_pages(memory: &str) -> impl Iterator<Item = u64> + '_ {
    let range = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let end = rest.split_once(' ')?.0;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    };
    let ranges = memory.lines().filter_map(range);
    ranges.flat_map(|range| (range.start.max(HYPERVISOR.start)..range.end.min(HYPERVISOR.end)).step_by(STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_bases_are_read() {
        let memory = "0000000000200000-0000000000201000 0000000000001000 urw\n\
                      ffff800000000000-ffff800000200000 0000000000200000 ur-\n\
                      ffff818000000000-ffff818000002000 0000000000002000 -r-\n";
        assert_eq!(hypervisor_pages(memory).collect::<Vec<_>>(), [IMAGE, IMAGE + PAGE]);
        let registers = "TR =e040 ffff81810001f000 00000067 00008b00\nGDT=     ffff818100000000 0000efff\n";
        assert_eq!(base_of(registers, "GDT"), Some(0xffff_8181_0000_0000));
        assert_eq!(base_of(registers, "IDT"), None);
    }
}
