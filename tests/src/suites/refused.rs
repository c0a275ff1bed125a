//! Suite `boot`, second part: archives and kernels that are refused, and the domains beside them that still start.

use super::prompt::{CLEAN, answers, ends_with, greeted, halt};
use crate::{
    run::Test,
    tally::Outcome,
    workshop::{self, Workshop},
};
use anyhow::{Context, Result};
use boot_archive::{Archive, HEADER_LEN};
use std::fs;
use xtask::{
    archive, build,
    machine::{Domain, Kernel, Machine, Memory},
};

/// The tests.
pub fn tests() -> Vec<Test> {
    let test = |name: &str, run: fn(&Workshop) -> Result<Outcome>| Test::on_machine("boot", name, run);
    vec![
        test("a truncated archive", truncated_archive),
        test("a damaged archive", damaged_archive),
        test("a kernel damaged on disk", damaged_kernel),
        test("a kernel that is no ELF file", |w| refused_kernel(w, "no-elf", |elf| elf[..4].fill(0))),
        test("an ELF file cut short", |w| refused_kernel(w, "cut-elf", |elf| elf.truncate(elf.len() / 3))),
        test("an ELF file with wild segments", |w| refused_kernel(w, "wild-elf", wild_segments)),
        test("an ELF file without Xen notes", |w| refused_kernel(w, "no-notes", erase_notes)),
        test("a domain larger than the machine", too_large),
    ]
}

fn truncated_archive(workshop: &Workshop) -> Result<Outcome> {
    refused_archive(workshop, "truncated", "cut short", |archive| archive.truncate(archive.len() / 2))
}

fn damaged_archive(workshop: &Workshop) -> Result<Outcome> {
    refused_archive(workshop, "damaged", "checksum", |archive| archive[HEADER_LEN] ^= 0x10)
}

/// Boots with an archive spoilt as a whole and waits for the line that says so.
fn refused_archive(workshop: &Workshop, name: &str, text: &str, spoil: fn(&mut Vec<u8>)) -> Result<Outcome> {
    let machine = workshop::machine(vec![workshop::demo("alpha", 1)]);
    let mut archive = archive::make(&machine, &workshop.built)?;
    spoil(&mut archive);
    let session = workshop.boot_archive(&format!("boot {name} archive"), &machine, &archive)?;
    session.wait_for(text)?;
    Ok(Outcome::Pass)
}

/// A bit of the first domain's kernel flips after the archive was made.
fn damaged_kernel(workshop: &Workshop) -> Result<Outcome> {
    let mut victim = workshop::teller("victim", "hello");
    victim.memory = Memory::mib(16);
    let machine = workshop::machine(vec![victim, workshop::demo("neighbour", 1)]);
    let mut archive = archive::make(&machine, &workshop.built)?;
    let kernel = Archive::parse(&archive)?.config().domains[0].kernel;
    let middle = usize::try_from(kernel.offset + kernel.len / 2)?;
    archive[middle] ^= 0x10;
    neighbour_lives(workshop, "damaged kernel", &machine, &archive)
}

/// The first domain gets the demo's ELF file, spoilt.
fn refused_kernel(workshop: &Workshop, name: &str, spoil: fn(&mut Vec<u8>)) -> Result<Outcome> {
    let mut elf = fs::read(build::guest("demo")).context("the demo guest")?;
    spoil(&mut elf);
    let file = workshop::file(name, "elf");
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(&file, elf)?;
    let victim = Domain { kernel: Kernel::File(file), ..workshop::demo("victim", 1) };
    let machine = workshop::machine(vec![victim, workshop::demo("neighbour", 1)]);
    neighbour_lives(workshop, name, &machine, &archive::make(&machine, &workshop.built)?)
}

/// Makes all program headers claim sizes and places beyond everything.
fn wild_segments(elf: &mut Vec<u8>) {
    const PROGRAM_HEADERS: usize = 64;
    const LEN: usize = 56;
    let count = usize::from(elf[56]);
    for header in elf[PROGRAM_HEADERS..].chunks_exact_mut(LEN).take(count) {
        // Everything behind type and flags: offset, addresses, sizes, alignment.
        header[8..].fill(0xf1);
    }
}

/// Renames the owner of all notes.
fn erase_notes(elf: &mut Vec<u8>) {
    let places: Vec<_> = elf.windows(4).enumerate().filter(|(_, w)| w == b"Xen\0").map(|(at, _)| at).collect();
    for at in places {
        elf[at..at + 3].copy_from_slice(b"Nex");
    }
}

/// What the check of machine files prevents, an archive may still say.
fn too_large(workshop: &Workshop) -> Result<Outcome> {
    let victim = Domain { memory: Memory::gib(1), ..workshop::demo("victim", 1) };
    let machine = workshop::machine(vec![victim, workshop::demo("neighbour", 1)]);
    neighbour_lives(workshop, "too large", &machine, &archive::make(&machine, &workshop.built)?)
}

/// The victim is refused, the neighbour starts, answers and leaves.
fn neighbour_lives(workshop: &Workshop, name: &str, machine: &Machine, archive: &[u8]) -> Result<Outcome> {
    let mut session = workshop.boot_archive(&format!("boot {name}"), machine, archive)?;
    session.wait_for("refusing domain 'victim'")?;
    greeted(&session, "neighbour")?;
    answers(&mut session, "neighbour")?;
    halt(&mut session)?;
    ends_with(&mut session, CLEAN)?;
    Ok(Outcome::Pass)
}
