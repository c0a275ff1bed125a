//! Suite `devices`: domain 0 drives devices of QEMU's, on both chipsets, by message and by pin; it is kept from what is the
//! hypervisor's own, and other domains from all of it; a line that screams doesn't stop its neighbour.

use crate::{
    context::{Context, log_file},
    guest::{Outcome, Verdict},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
    telling::{self, Shape, lines_of},
};
use anyhow::{Result, ensure};
use std::{fs, path::Path};
use xtask::{
    archive,
    machine::{Chipset, Domain, Machine, Memory},
};

/// The suite, that of its stories, and the kernel that tells those of domain 0.
const SUITE: &str = "devices";

/// Sectors of the disk that is read; each is full of its number, as 64-bit words.
const SECTORS: u64 = 128;

/// The disk: with the modern interface alone, or with the old one too.
const MODERN: &str = "virtio-blk-pci,disable-legacy=on";
const TRANSITIONAL: &str = "virtio-blk-pci,disable-legacy=off";

/// Told while a line screams, in another domain.
const STORM: &str = "devices-storm";
const BESIDE_STORM: &str = "time-passes";

/// One test for each story of domain 0 and chipset, and one for each of the self-test's.
///
/// # Errors
/// When the list of stories can't be read.
pub fn tests() -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for chipset in [Chipset::Pc, Chipset::Q35] {
        for story in ["devices-message", "devices-pin", "devices-own"] {
            tests.push(test(format!("{story}-{}", chipset.word()), story, chipset, MODERN));
        }
    }
    tests.push(test("devices-transitional".to_owned(), "devices-message", Chipset::Pc, TRANSITIONAL));
    tests.push(test(STORM.to_owned(), STORM, Chipset::Q35, MODERN));
    tests.extend(telling::tests(SUITE, |story, context| telling::tell(SUITE, story, Shape::SINGLE, context))?);
    Ok(tests)
}

fn test(name: String, story: &'static str, chipset: Chipset, device: &'static str) -> Test {
    let log = log_file(&format!("{SUITE}/{name}"));
    Test::machine(SUITE, name, move |context| {
        let mut domains = vec![domain("dom0", "devices", &format!("story={story}"), telling::MEMORY)];
        domains[0].control = true;
        if story == STORM {
            domains.push(domain("beside", "selftest", &format!("story={BESIDE_STORM}"), Memory::mib(16)));
        }
        let (output, end) = run(domains, chipset, device, &log, context)?;
        let verdict = Verdict::find(story, &lines_of("dom0", &output)).explained(|| end);
        ensure!(verdict.outcome == Outcome::Pass, "{verdict}");
        if story == STORM {
            let beside = Verdict::find(BESIDE_STORM, &lines_of("beside", &output));
            ensure!(beside.outcome == Outcome::Pass, "the neighbour: {beside}");
            let told = |by: &str| output.find(&format!("({by}) VERDICT"));
            ensure!(told("beside") < told("dom0"), "the neighbour had to wait for the storm's end");
        }
        Ok(Ending::Passed)
    })
}

/// Runs domains on a machine with the disk, to its end. What was said, and a word about the end.
fn run(
    domains: Vec<Domain>,
    chipset: Chipset,
    device: &str,
    log: &Path,
    context: &Context,
) -> Result<(String, String)> {
    let disk = log.with_extension("disk");
    fs::create_dir_all(disk.parent().unwrap_or(Path::new(".")))?;
    let sector = |number: u64| number.to_le_bytes().repeat(64);
    fs::write(&disk, (0..SECTORS).flat_map(sector).collect::<Vec<_>>())?;
    let devices = [
        "-drive".to_owned(),
        format!("if=none,id=disk,format=raw,file={}", disk.display()),
        "-device".to_owned(),
        format!("{device},drive=disk"),
    ];
    let machine = Machine { chipset, devices: devices.to_vec(), ..machine(domains) };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let mut running = Running::boot(context, &machine, &archive, log, LIMIT)?;
    let ended = running.end();
    let explanation = format!("the machine's end is {ended:?}; {}", running.last_words());
    Ok((running.output(), explanation))
}
