//! Suite `devices`: domain 0 drives devices of QEMU's, on both chipsets, by message and by pin.

use crate::{
    context::{Context, log_file},
    guest::{Outcome, Verdict},
    running::Running,
    scenario::{LIMIT, domain, machine},
    suite::{Ending, Test},
    telling,
};
use anyhow::{Result, bail};
use std::{fs, path::Path};
use xtask::{
    archive,
    machine::{Chipset, Domain, Machine},
};

/// The suite, and the kernel that tells its stories.
const SUITE: &str = "devices";

/// Sectors of the disk that is read; each is full of its number, as 64-bit words.
const SECTORS: u64 = 128;

/// One test for each story and chipset, and a disk with both interfaces, the modern and the old one.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for chipset in [Chipset::Pc, Chipset::Q35] {
        for story in ["devices-message", "devices-pin"] {
            let name = format!("{story}-{}", chipset.word());
            tests.push(test(name, story, chipset, "virtio-blk-pci,disable-legacy=on"));
        }
    }
    tests.push(test(
        "devices-transitional".to_owned(),
        "devices-message",
        Chipset::Pc,
        "virtio-blk-pci,disable-legacy=off",
    ));
    tests
}

fn test(name: String, story: &'static str, chipset: Chipset, device: &'static str) -> Test {
    let log = log_file(&format!("{SUITE}/{name}"));
    Test::machine(SUITE, name, move |context| {
        let verdict = tell(story, chipset, device, &log, context).unwrap_or_else(Verdict::silence);
        if verdict.outcome == Outcome::Pass { Ok(Ending::Passed) } else { bail!("{verdict}") }
    })
}

fn tell(story: &str, chipset: Chipset, device: &str, log: &Path, context: &Context) -> Result<Verdict> {
    let disk = log.with_extension("disk");
    fs::create_dir_all(disk.parent().unwrap_or(Path::new(".")))?;
    let sector = |number: u64| number.to_le_bytes().repeat(64);
    fs::write(&disk, (0..SECTORS).flat_map(sector).collect::<Vec<_>>())?;
    let teller = domain("dom0", "devices", &format!("story={story}"), telling::MEMORY);
    let devices = [
        "-drive".to_owned(),
        format!("if=none,id=disk,format=raw,file={}", disk.display()),
        "-device".to_owned(),
        format!("{device},drive=disk"),
    ];
    let machine = Machine { chipset, devices: devices.to_vec(), ..machine(vec![Domain { control: true, ..teller }]) };
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let mut running = Running::boot(context, &machine, &archive, log, LIMIT)?;
    let ended = running.end();
    let verdict = Verdict::find(story, &running.output());
    Ok(verdict.explained(|| format!("the machine's end is {ended:?}; {}", running.last_words())))
}
