//! Suite `boot`, the ramdisk: a domain gets the file that its machine file names, by frame number or mapped, as its
//! kernel's notes ask.

use super::boot::SUITE;
use crate::{
    context::{Context, log_file},
    damage::Damage,
    pattern::{logged, said_by},
    scenario::{End, Scenario, Step, domain, machine},
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, ensure};
use boot_archive::LogLevel;
use regex::Regex;
use std::fs;
use xtask::{
    build,
    machine::{Domain, Kernel, Machine, Memory, Ramdisk},
};

/// The self-test's story about it.
const STORY: &str = "story=ramdisk";

/// Bytes in the ramdisk: more than one page table maps, and a part of a page; and more than the BIOS boot loader takes on a
/// volume whose sectors are as small as the disk's.
const LENGTH: u32 = 34 * 1024 * 1024 + 4097;

/// The note MOD_START_PFN becomes one that nobody knows, so the builder maps the ramdisk: lengths of name and contents,
/// number, name.
const WITHOUT_NOTE: Damage =
    Damage::Text(b"\x04\0\0\0\x08\0\0\0\x10\0\0\0Xen\0", b"\x04\0\0\0\x08\0\0\0\x70\0\0\0Xen\0");

/// The test.
pub fn tests() -> Vec<Test> {
    vec![Test::machine(SUITE, "ramdisk", both_ways)]
}

/// One file for two domains, whose kernels differ in that note.
fn both_ways(context: &Context) -> Result<Ending> {
    let folder = tempfile::tempdir()?;
    let contents = contents();
    let ramdisk = folder.path().join("ramdisk");
    fs::write(&ramdisk, &contents)?;
    context.pavise()?;
    let mut elf = fs::read(build::guest("selftest"))?;
    WITHOUT_NOTE.apply(&mut elf)?;
    let without_note = folder.path().join("selftest");
    fs::write(&without_note, elf)?;

    let by_frame =
        Domain { ramdisk: Some(Ramdisk::File(ramdisk)), ..domain("by-frame", "selftest", STORY, Memory::mib(80)) };
    let mapped = Domain { name: "mapped".to_owned(), kernel: Kernel::File(without_note), ..by_frame.clone() };
    let steps = vec![
        Step::Expect(vec![
            said_by("by-frame", &format!(r"ramdisk of {LENGTH} bytes from frame \d+ on")),
            said_by("by-frame", "VERDICT ramdisk pass"),
            said_by(
                "mapped",
                &format!("ramdisk of {LENGTH} bytes at 0xffffffff80[0-9a-f]+, checksum {:016x}", fnv(&contents)),
            ),
            said_by("mapped", "VERDICT ramdisk pass"),
            logged(r"boot archive: \d+ KiB given back"),
            logged("all domains have stopped"),
        ]),
        Step::check(archive_came_back),
        Step::End(End::Clean),
    ];
    let machine = Machine { log_level: LogLevel::Debug, ..machine(vec![by_frame, mapped]) };
    Scenario::new(machine, steps).play(context, &log_file(&format!("{SUITE}/ramdisk")))
}

/// The memory of the boot archive, with the ramdisk in it, is free when the domains have their copies.
fn archive_came_back(output: &str) -> Result<()> {
    let number = |expression: &str| -> Result<u64> {
        let found = Regex::new(expression)?.captures(output).with_context(|| format!("no {expression}"))?;
        Ok(found[1].parse()?)
    };
    let (at_first, archive) =
        (number(r"memory: (\d+) MiB for domains")?, number(r"boot archive: (\d+) KiB given back")?);
    let in_the_end = number(r"removed; \d+ MiB of (\d+) MiB free")?;
    ensure!(archive > u64::from(LENGTH) >> 10, "{archive} KiB are less than the ramdisk");
    let expected = at_first + (archive >> 10);
    ensure!((expected..=expected + 1).contains(&in_the_end), "{in_the_end} MiB in the end, expected {expected}");
    Ok(())
}

/// Bytes of which no two pages are equal, and none is zero.
fn contents() -> Vec<u8> {
    let numbers =
        std::iter::successors(Some(1_u32), |number| Some(number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    numbers.take(LENGTH as usize).map(|number| number.to_be_bytes()[0] | 1).collect()
}

/// FNV-1a with 64 bits, as the self-test computes it.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn pages_of_the_ramdisk_differ() {
        let contents = contents();
        let mut pages: Vec<_> = contents.chunks(4096).collect();
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), contents.len().div_ceil(4096));
        assert!(!contents.contains(&0));
    }
}
