//! Suite `io`: guests read and write disks through dom0, and the host looks at the image before and after.

use crate::{
    context::{Context, log_file},
    pattern::{Pattern, regex, said_by},
    running::Running,
    scenario::{End, LIMIT, domain, machine},
    suite::{Ending, Test},
    write_log,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};
use xtask::{
    archive, disk,
    machine::{Content, Disk, Dom0, Domain, DomainDisk, Interface, Machine, Memory, Partition, Source},
};

const SUITE: &str = "io";
const SECTOR: usize = 512;
/// The disk, and its two partitions of 4 MiB.
const DISK_BYTES: usize = 12 << 20;
const ONE: Range<usize> = 1 << 20..5 << 20;
const TWO: Range<usize> = 5 << 20..9 << 20;
/// Times that a guest is destroyed in the middle of a write: more than have memory at once.
const ROUNDS: u64 = 6;
/// Records that are seen to be durable before the machine is killed.
const DURABLE: u64 = 40;
/// Times that a back end panics.
const PANICS: u64 = 3;

/// All tests.
pub fn tests() -> Vec<Test> {
    vec![
        test("disk-two-guests", two_guests),
        test("disk-read-only", read_only),
        test("disk-restarts", restarts),
        test("disk-killed", killed),
        test("disk-panics", panics),
    ]
}

/// A machine with a disk, and what happens there.
struct Setup<'c> {
    context: &'c Context,
    log: PathBuf,
    image: PathBuf,
    /// What was on the disk before.
    before: Vec<u8>,
}

fn test(name: &'static str, story: fn(&Setup<'_>) -> Result<()>) -> Test {
    let log = log_file(&format!("{SUITE}/{name}"));
    Test::machine(SUITE, name, move |context| {
        let image = log.with_extension("disk");
        fs::create_dir_all(log.parent().unwrap_or(Path::new(".")))?;
        let before = make_disk(&image)?;
        story(&Setup { context, log: log.clone(), image: image.clone(), before })?;
        fs::remove_file(&image)?;
        Ok(Ending::Passed)
    })
}

/// A disk with two partitions full of pattern 1.
fn make_disk(image: &Path) -> Result<Vec<u8>> {
    let partition = |label: &str| Partition { label: label.to_owned(), size: Memory::mib(4) };
    disk::make(image, DISK_BYTES as u64, &[partition("one"), partition("two")])?;
    let mut bytes = fs::read(image)?;
    for range in [ONE, TWO] {
        pattern(1, &mut bytes[range]);
    }
    fs::write(image, &bytes)?;
    Ok(bytes)
}

/// As the demo guest has it.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

fn pattern(seed: u64, bytes: &mut [u8]) {
    for (place, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
        word.copy_from_slice(&mix(seed ^ place).to_le_bytes());
    }
}

fn is_pattern(seed: u64, bytes: &[u8]) -> bool {
    let mut expected = vec![0; bytes.len()];
    pattern(seed, &mut expected);
    bytes == expected
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    (0..).zip(words).fold(0, |sum: u64, (place, word)| sum.wrapping_add(mix(word ^ mix(place))))
}

/// A demo guest with a disk.
fn guest(name: &str, label: &str, read_only: bool) -> Domain {
    let disk = DomainDisk { name: "xvda".to_owned(), source: Source::Partition(label.to_owned()), read_only };
    Domain { disks: vec![disk], ..domain(name, "demo", &format!("name={name}"), Memory::mib(32)) }
}

impl Setup<'_> {
    fn boot(&self, domains: Vec<Domain>) -> Result<Running> {
        let content = Content::Image(self.image.clone());
        let disks = vec![Disk { name: "data".to_owned(), content, interface: Interface::Virtio }];
        self.boot_machine(Machine { disks, ..machine(domains) })
    }

    fn boot_machine(&self, machine: Machine) -> Result<Running> {
        let machine = Machine { cpus: 2, dom0: Some(Dom0::with_memory(Memory::mib(48))), ..machine };
        let archive = archive::make(&machine, &self.context.pavise()?.built)?;
        Running::boot(self.context, &machine, &archive, &self.log, LIMIT)
    }

    fn after(&self) -> Result<Vec<u8>> {
        fs::read(&self.image).context("the disk's image")
    }
}

/// Types a line, and waits for what follows it.
fn ask(running: &mut Running, line: &str, answers: &[Pattern]) -> Result<()> {
    running.type_keys(&format!("{line}\r"))?;
    running.expect(answers).with_context(|| format!("after {line:?}"))
}

/// Moves the keys to the next console.
fn next(running: &mut Running, name: &str) -> Result<()> {
    running.type_keys("\x14")?;
    running.expect(&[said_by("dom0", &format!("keys now go to {name}; .*"))])
}

fn shut_down(running: &mut Running) -> Result<()> {
    running.type_keys("shutdown\r")?;
    running.expect_end(End::Clean as i32)
}

fn visited(name: &str, generation: u64) -> Pattern {
    said_by(name, &format!("disk: wrote generation {generation}, and read it again"))
}

/// Two guests read what the host wrote, each writes its own partition and reads it again; the host finds what they wrote
/// where it should be, and nothing else changed.
fn two_guests(setup: &Setup<'_>) -> Result<()> {
    let mut running = setup.boot(vec![guest("alpha", "one", false), guest("beta", "two", false)])?;
    running.expect(&[visited("alpha", 1), visited("beta", 1)])?;
    let records = setup.after()?;
    let said = |name, what: &str| said_by(name, &format!("disk: {what}"));
    let sums = [ONE, TWO].map(|range| format!("sum {:016x} of 8192 sectors", sum(&records[range])));
    ask(&mut running, "disk sum", &[said("alpha", &sums[0])])?;
    ask(&mut running, "disk fill 7", &[said("alpha", "filled with pattern 7 and flushed")])?;
    next(&mut running, "beta")?;
    ask(&mut running, "disk sum", &[said("beta", &sums[1])])?;
    ask(&mut running, "disk fill 9", &[said("beta", "filled with pattern 9 and flushed")])?;
    ask(&mut running, "disk check 9", &[said("beta", "0 sectors are not of pattern 9")])?;
    next(&mut running, "dom0")?;
    // Each has read and written its disk, and has no network.
    let rates = |name| regex(&format!(r"^{name} .* %( +[\d.]+ [KM]/s){{2}}( +0){{2}}  "));
    ask(&mut running, "top", &[rates("alpha"), rates("beta")])?;
    next(&mut running, "alpha")?;
    ask(&mut running, "disk check 7", &[said("alpha", "0 sectors are not of pattern 7")])?;
    next(&mut running, "beta")?;
    next(&mut running, "dom0")?;
    shut_down(&mut running)?;
    let after = setup.after()?;
    ensure!(is_pattern(7, &after[ONE]), "partition one is not as alpha wrote it");
    ensure!(is_pattern(9, &after[TWO]), "partition two is not as beta wrote it");
    ensure!(after[..ONE.start] == setup.before[..ONE.start], "the partition table has changed");
    ensure!(after[TWO.end..] == setup.before[TWO.end..], "something changed behind the partitions");
    Ok(())
}

/// A guest whose disk is read-only reads it, and can't write it.
fn read_only(setup: &Setup<'_>) -> Result<()> {
    let mut running = setup.boot(vec![guest("alpha", "one", true)])?;
    running.expect(&[said_by("alpha", "disk: 4096 KiB, read-only, .*"), "alpha> ".into()])?;
    ask(&mut running, "disk check 1", &[said_by("alpha", "disk: 0 sectors are not of pattern 1")])?;
    ask(&mut running, "disk fill 3", &[said_by("alpha", "disk: the disk failed")])?;
    next(&mut running, "dom0")?;
    shut_down(&mut running)?;
    ensure!(setup.after()? == setup.before, "the disk has changed");
    Ok(())
}

/// A guest that is started again finds its disk, also if it was destroyed in the middle of a write, so often that there would
/// be no memory for it if the back end kept what it was granted; its neighbour's is not disturbed.
fn restarts(setup: &Setup<'_>) -> Result<()> {
    let mut running = setup.boot(vec![guest("alpha", "one", false), guest("beta", "two", false)])?;
    running.expect(&[visited("alpha", 1), visited("beta", 1), "alpha> ".into()])?;
    ask(&mut running, "reboot", &[visited("alpha", 2)])?;
    ask(&mut running, "console alpha", &["alpha> ".into()])?;
    for _ in 0..ROUNDS {
        // Nobody waits for the end of this.
        running.type_keys("disk fill 5\r")?;
        next(&mut running, "beta")?;
        next(&mut running, "dom0")?;
        ask(&mut running, "destroy alpha", &[said_by("dom0", r"d\d+ \(alpha\) was destroyed")])?;
        ask(&mut running, "create alpha", &[said_by("alpha", "disk: wrote generation .*")])?;
        ask(&mut running, "console alpha", &["alpha> ".into()])?;
    }
    next(&mut running, "beta")?;
    ask(&mut running, "disk", &[visited("beta", 2)])?;
    next(&mut running, "dom0")?;
    shut_down(&mut running)
}

/// The machine is killed in the middle of writes: every record that was said to be durable is on the disk.
fn killed(setup: &Setup<'_>) -> Result<()> {
    let (mut running, log) = boot_logged(setup, vec![guest("alpha", "one", false)])?;
    running.expect(&[visited("alpha", 1), "alpha> ".into()])?;
    ask(&mut running, "disk log", &[said_by("alpha", &format!("disk: record {DURABLE} is durable"))])?;
    let said = running.output();
    drop(running);
    check_durable(setup, &log, &said, DURABLE)
}

/// The back end of a disk panics in the middle of writes, more than once: the guest sees that it is gone, connects again, and
/// goes on; its neighbour reads what it wrote; every record that was said to be durable is on the disk.
fn panics(setup: &Setup<'_>) -> Result<()> {
    let (mut running, log) = boot_logged(setup, vec![guest("alpha", "one", false), guest("beta", "two", false)])?;
    running.expect(&[visited("alpha", 1), visited("beta", 1), "alpha> ".into()])?;
    running.type_keys("disk log\r")?;
    next(&mut running, "beta")?;
    // Meanwhile.
    running.type_keys("disk fill 9\r")?;
    next(&mut running, "dom0")?;
    let said = |name, what: &str| said_by(name, &format!("disk: {what}"));
    for _ in 0..PANICS {
        let crashed = r"ERROR: /local/domain/0/backend/vbd/\d+/51712: closed: panicked at dom0/src/.*";
        let again = [said("alpha", "the backend is gone"), said("alpha", "connected again")];
        ask(&mut running, "crash alpha vbd 51712", &[&[said_by("dom0", crashed)], &again[..]].concat())?;
        // Two records later it surely goes on.
        running.expect(&[said("alpha", r"record \d+ is durable")])?;
        running.expect(&[said("alpha", r"record \d+ is durable")])?;
    }
    running.type_keys("console beta\r")?;
    ask(&mut running, "disk check 9", &[said("beta", "0 sectors are not of pattern 9")])?;
    let said = running.output();
    drop(running);
    check_durable(setup, &log, &said, PANICS)
}

/// Boots a machine whose disk's writes and flushes QEMU logs: a disk that loses power need not keep more than what was
/// written before the last flush, but what the host has in its cache survives QEMU.
fn boot_logged(setup: &Setup<'_>, domains: Vec<Domain>) -> Result<(Running, PathBuf)> {
    let log = setup.log.with_extension("writes");
    fs::write(&log, [])?;
    let drive = [
        "driver=blklogwrites,node-name=logged,log-sector-size=512",
        &format!("file.driver=file,file.filename={}", setup.image.display()),
        &format!("log.driver=file,log.filename={}", log.display()),
    ];
    let devices = ["-blockdev", &drive.join(","), "-device", "virtio-blk-pci,drive=logged,serial=data"];
    let machine = Machine { devices: devices.map(str::to_owned).into(), ..machine(domains) };
    Ok((setup.boot_machine(machine)?, log))
}

/// Looks whether each record that alpha said to be durable, more than `least`, is among what the disk has for sure.
fn check_durable(setup: &Setup<'_>, log: &Path, said: &str, least: u64) -> Result<()> {
    let mut disk = setup.before.clone();
    let flushes = write_log::replay(&fs::read(log)?, &mut disk)?;
    for (place, sector) in (0..).zip(disk[ONE].chunks(SECTOR)) {
        if !said.contains(&format!("disk: record {place} is durable")) {
            ensure!(place > least, "record {least} was not said to be durable");
            break;
        }
        ensure!(sector == record(place, 1), "record {place} is lost; there were {flushes} flushes");
    }
    fs::remove_file(log)?;
    Ok(())
}

/// A record, as the demo guest writes it.
fn record(place: u64, generation: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let check = mix(place ^ generation.rotate_left(32));
    for (word, value) in sector.chunks_exact_mut(8).zip([u64::from_le_bytes(*b"PaviseRc"), place, generation, check]) {
        word.copy_from_slice(&value.to_le_bytes());
    }
    sector
}
