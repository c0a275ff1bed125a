//! The group `io`: what a request of a disk and a packet cost on their whole way: guest, rings, control domain, device.
//!
//! The machine has no timer that runs by itself, and instruction counting lets no time pass while nothing is executed: the
//! TSC goes on only while somebody works, whoever it is. The disk's contents come from nowhere (`null-co`), so what is
//! counted is the way there.

mod calls;

use super::{
    guest::{self, Line},
    report::{Share, grouped},
};
use crate::{
    archive, build,
    build::Built,
    image::Imager,
    machine::{Dom0, Domain, DomainDisk, DomainNetwork, Kernel, Machine, Memory, Network, Source},
    paths,
    qemu::{Accel, COUNTING_CPU, DEBUG_EXIT_PORT, Hardware, Monitor},
    session::Session,
};
use anyhow::{Context, Result, ensure};
use boot_archive::{Scheduling, WhenAllStopped};
use calls::Calls;
use std::{fmt::Write, fs, path::Path, time::Duration};

/// Time for one run.
const LIMIT: Duration = Duration::from_secs(600);
/// The kernel that reads the disk itself, among [`build::GUESTS`].
const DIRECT: &str = "direct";
/// The bench guest's last line, and what it waits with.
const DONE: &str = "VERDICT bench pass";
const READY: &str = "bench: ready";
/// What its partner says when packets can come.
const REFLECTS: &str = "bench: reflects";
/// Their addresses. The bench guest knows the second.
const MACS: [[u8; 6]; 2] = [[0x00, 0x16, 0x3e, 0, 0, 1], [0x00, 0x16, 0x3e, 0, 0, 2]];
const DISK_BYTES: u64 = 64 << 20;
/// What the names of runs begin with that measure time.
const THROUGHPUT: &str = "throughput";
/// What the guest does while it is watched: less.
const WATCHED: &str = "operations=64 batches=1";

/// The most that an operation may take.
struct Bar {
    name: &'static str,
    instructions: u64,
    /// Hypercalls, in hundredths.
    hypercalls: Option<u64>,
    /// Bytes that hypervisor and control domain copy.
    copied: Option<u64>,
}

const fn bar(name: &'static str, instructions: u64) -> Bar {
    Bar { name, instructions, hypercalls: None, copied: None }
}

const fn request(name: &'static str, instructions: u64, hypercalls: Option<u64>, copied: u64) -> Bar {
    Bar { name, instructions, hypercalls, copied: Some(copied) }
}

/// Two hypercalls for a request.
const TWO: Option<u64> = Some(200);

/// The rows about the disk: those of the kernel that reads it itself, then the bench guest's. What is copied is less than
/// the data in any case, which then isn't.
const DISK: &[Bar] = &[
    bar("direct-read-4k-depth-1", 5_000),
    bar("direct-read-4k-depth-32", 500),
    bar("direct-read-64k-depth-1", 5_000),
    bar("direct-read-64k-depth-32", 500),
    request("read-4k-depth-1", 20_000, None, 4_095),
    request("read-4k-depth-32", 4_000, TWO, 512),
    request("read-64k-depth-1", 40_000, None, 8 << 10),
    request("read-64k-depth-32", 27_000, TWO, 8 << 10),
    bar("connect", 3_500_000),
];

/// The rows about the network.
const NET: &[Bar] = &[
    bar("send-1500", 15_000),
    bar("receive-1500", 15_000),
    bar("send-64k", 230_000),
    bar("uplink-1500-and-back", 25_000),
];

/// How long the disk takes for a request, in nanoseconds of the host: so long that whoever waits for one sleeps. Without, it
/// would be the host's choice whether the answer is there before.
const LATENCY: u64 = 200_000;
/// What a disk gives in a second, for throughput: as much for a CPU that QEMU plays, on a busy host, as a GB for a real one.
const THROTTLE: u64 = 16 << 20;
/// The row that throughput is measured with.
const LARGE_READ: &str = "read-64k-depth-32";
/// The guest's least throughput, in percent of what the control domain has when it reads the disk itself.
const LEAST_THROUGHPUT: u64 = 80;

/// A row that was measured.
struct Row {
    group: &'static str,
    bar: &'static Bar,
    instructions: u64,
    /// What was watched, if it was.
    calls: Option<(Calls, u64)>,
}

/// Measures, prints the tables, writes the rows to `json`; says whether the bars are held.
///
/// # Errors
/// When a build or a run fails.
pub fn measure(json: Option<&Path>) -> Result<bool> {
    let bench = Bench::build()?;
    let mut disk = bench.direct()?;
    disk.extend(bench.count("disk")?);
    let disk = bench.rows("disk", DISK, &disk)?;
    let net = bench.rows("net", NET, &bench.count("net")?)?;
    let throughput = bench.throughput()?;
    let mut held = throughput >= LEAST_THROUGHPUT;
    for (title, rows) in [("disk, per request", &disk), ("net, per packet", &net)] {
        held &= print(title, rows);
    }
    let verdict = if throughput < LEAST_THROUGHPUT { "BROKEN" } else { "held" };
    println!(
        "\nthroughput of a guest, in percent of the control domain's own: {throughput} (bar: {LEAST_THROUGHPUT})  {verdict}"
    );
    let path = paths::target().join("bench/io-calls.txt");
    fs::write(&path, details(disk.iter().chain(&net))).with_context(|| format!("cannot write {}", path.display()))?;
    println!("each hypercall, and where bytes are copied: {}", paths::shown(&path));
    if let Some(path) = json {
        fs::write(path, in_json(disk.iter().chain(&net)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(held)
}

/// What every run needs.
struct Bench {
    built: Built,
    imager: Imager,
}

impl Bench {
    fn build() -> Result<Bench> {
        let built = build::bare_metal()?;
        let imager = Imager::build(&built)?;
        Ok(Bench { built, imager })
    }

    fn boot(&self, machine: &Machine, arguments: &[String], run: &str) -> Result<Session> {
        eprintln!("- measuring {run}");
        let folder = paths::target().join("bench");
        let image = folder.join(format!("io-{run}.img"));
        self.imager.make(machine.firmware, &archive::make(machine, &self.built)?, &image)?;
        let hardware = Hardware { icount: !run.starts_with(THROUGHPUT), ..Hardware::of(machine, Accel::Tcg) };
        let mut qemu = hardware.boot_image(&image)?;
        Session::start(qemu.args(arguments), &folder.join(format!("io-{run}.log")), LIMIT)
    }

    /// The rows of the kernel that reads the disk itself.
    fn direct(&self) -> Result<Vec<Line>> {
        finish(&self.boot(&direct(), &[], "disk-direct")?)
    }

    /// The bench guest's rows of a group.
    fn count(&self, group: &str) -> Result<Vec<Line>> {
        let mut session = self.boot(&guests(group, ""), &[], group)?;
        begin(&mut session)?;
        finish(&session)
    }

    /// The guest's throughput on a disk of limited speed, in percent of what the control domain has that reads it itself. In
    /// time: where everybody waits for the disk, instructions don't say who would.
    fn throughput(&self) -> Result<u64> {
        let throttled = |machine: Machine| {
            let disk = format!(
                "if=none,id=disk,format=raw,file=null-co://,file.read-zeroes=on,file.size={DISK_BYTES},\
                 throttling.bps-total={THROTTLE}"
            );
            let replace = |argument: String| match argument.as_str() {
                "-blockdev" => "-drive".to_owned(),
                text if text.starts_with("driver=null-co") => disk.clone(),
                _ => argument,
            };
            Machine { devices: machine.devices.into_iter().map(replace).collect(), ..machine }
        };
        let time = |lines: &[Line], row: &str| {
            let line = lines.iter().find(|line| line.name == row).with_context(|| format!("no row {row}"))?;
            let figure = line.figure.as_ref().map_err(|error| anyhow::anyhow!("{row}: {error}"))?;
            anyhow::Ok(figure.per_operation())
        };
        let session = self.boot(&throttled(direct()), &[], &format!("{THROUGHPUT}-direct"))?;
        let direct = time(&finish(&session)?, &format!("direct-{LARGE_READ}"))?;
        let machine = throttled(guests("disk", &format!("row={LARGE_READ} time=1 batches=3")));
        let mut session = self.boot(&machine, &[], &format!("{THROUGHPUT}-guest"))?;
        begin(&mut session)?;
        Ok(direct * 100 / time(&finish(&session)?, LARGE_READ)?.max(1))
    }

    /// The rows of a group, watched in another run, beside their bars.
    fn rows(&self, group: &'static str, bars: &'static [Bar], lines: &[Line]) -> Result<Vec<Row>> {
        ensure!(
            lines.iter().map(|line| line.name.as_str()).eq(bars.iter().map(|bar| bar.name)),
            "the rows of the group {group} are not those that there are bars for"
        );
        let watched = self.watch(group)?;
        let rows = lines.iter().zip(bars).map(|(line, bar)| {
            let figure = line.figure.as_ref().map_err(|error| anyhow::anyhow!("{}: {error}", line.name))?;
            let calls = watched.iter().find(|(name, ..)| *name == line.name);
            let calls = calls.map(|(_, calls, operations)| (calls.clone(), *operations));
            Ok(Row { group, bar, instructions: figure.per_operation(), calls })
        });
        rows.collect()
    }

    /// Watches what the guest's operations of a group call and copy: name, calls, number of operations.
    fn watch(&self, group: &str) -> Result<Vec<(String, Calls, u64)>> {
        let file = |name: &str| fs::read(build::with_symbols(name)).with_context(|| format!("no {name}"));
        let (hypervisor, guest, dom0) = (fs::read(&self.built.hypervisor)?, file(guest::GUEST)?, file("dom0")?);
        // The copies of packets would make the log too long.
        let sites = calls::Sites::find(&hypervisor, &guest, if group == "disk" { Some(&dom0) } else { None })?;
        let folder = tempfile::tempdir()?;
        let (socket, log) = (folder.path().join("monitor"), folder.path().join("executed"));
        let mut arguments = Monitor::arguments(&socket).to_vec();
        arguments.extend(["-D".to_owned(), log.display().to_string(), "-dfilter".to_owned(), sites.filter()]);
        let mut session = self.boot(&guests(group, WATCHED), &arguments, &format!("{group}-watched"))?;
        session.wait_for(READY)?;
        Monitor::connect(&socket)?.command("log exec,cpu,nochain")?;
        begin(&mut session)?;
        let lines = finish(&session)?;
        drop(session);
        let stretches = calls::read(&sites, fs::File::open(&log).context("QEMU wrote no execution log")?)?;
        ensure!(stretches.len() == lines.len(), "{} rows left {} traces", lines.len(), stretches.len());
        let rows = lines.into_iter().zip(stretches).map(|(line, calls)| {
            let operations = line.figure.as_ref().map_or(1, |figure| figure.operations);
            (line.name, calls, operations)
        });
        Ok(rows.collect())
    }
}

/// Lets the bench guest begin, when both guests are ready.
fn begin(session: &mut Session) -> Result<()> {
    session.wait_for(REFLECTS)?;
    session.wait_for(READY)?;
    // Any key will do.
    session.send(" ")
}

/// Waits for the last row, and returns all.
fn finish(session: &Session) -> Result<Vec<Line>> {
    session.wait_for(DONE)?;
    guest::lines(&session.text())
}

/// The machine: one CPU, a disk without data, a network, and no timer of the old kind, which would make time pass.
fn machine() -> Machine {
    let disk = format!("driver=null-co,node-name=disk,read-zeroes=on,latency-ns={LATENCY},size={DISK_BYTES}");
    let devices = ["-machine", "pit=off", "-blockdev", &disk, "-device", "virtio-blk-pci,drive=disk,serial=data"];
    Machine {
        cpu: COUNTING_CPU.to_owned(),
        when_all_stopped: WhenAllStopped::DebugExit(DEBUG_EXIT_PORT),
        devices: devices.map(str::to_owned).into(),
        network: Some(Network::default()),
        ..Machine::empty()
    }
}

/// The machine with a control domain that reads the disk itself.
fn direct() -> Machine {
    let control = Domain { control: true, ..domain(DIRECT, DIRECT, String::new()) };
    Machine { domains: vec![control], ..machine() }
}

/// The machine with the bench guest, which measures a group, and its partner behind the control domain.
fn guests(group: &str, options: &str) -> Machine {
    let options = format!("group={group} {options} wait=1");
    let disk = DomainDisk { name: "xvda".to_owned(), source: Source::Disk("data".to_owned()), read_only: false };
    let network = |mac| vec![DomainNetwork { mac, rate: None, any_source: false, backend: None }];
    let [own, other] = MACS;
    let bench = Domain { disks: vec![disk], networks: network(own), ..domain(guest::GUEST, guest::GUEST, options) };
    let partner = Domain { networks: network(other), ..domain("partner", guest::GUEST, "reflects=1".to_owned()) };
    Machine { dom0: Some(Dom0::with_memory(Memory::mib(64))), domains: vec![bench, partner], ..machine() }
}

fn domain(name: &str, kernel: &str, command_line: String) -> Domain {
    Domain {
        name: name.to_owned(),
        kernel: Kernel::Built(kernel.to_owned()),
        control: false,
        ramdisk: None,
        command_line,
        memory: Memory::mib(64),
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    }
}

impl Row {
    /// Hypercalls, copies by grants, and bytes that were copied: each as the share of one operation.
    fn shares(&self) -> [Option<Share>; 3] {
        let share = |count: fn(&Calls) -> u64| {
            self.calls.as_ref().map(|(calls, operations)| Share { count: count(calls), operations: *operations })
        };
        let copied = share(|calls| calls.copied).filter(|_| self.group == "disk");
        [share(Calls::hypercalls), share(|calls| calls.grant_copies), copied]
    }

    fn is_held(&self) -> bool {
        let [hypercalls, _, copied] = self.shares();
        let within = |share: Option<Share>, most: Option<u64>, unit: u64| {
            let share = share.map(|Share { count, operations }| (count * unit).div_ceil(operations));
            share.zip(most).is_none_or(|(share, most)| share <= most)
        };
        self.instructions <= self.bar.instructions
            && within(hypercalls, self.bar.hypercalls, 100)
            && within(copied, self.bar.copied, 1)
    }
}

/// Prints a table; whether its bars are held.
fn print(title: &str, rows: &[Row]) -> bool {
    println!("\n{title:<28}{:>12}{:>11}{:>8}{:>8}{:>11}", "instructions", "hypercalls", "copies", "bytes", "bar");
    let mut all = true;
    for row in rows {
        let shares = row.shares().map(|share| share.map_or_else(|| "-".to_owned(), |share| share.to_string()));
        let [hypercalls, copies, copied] = shares;
        let verdict = if row.is_held() { "held" } else { "BROKEN" };
        all &= row.is_held();
        let (name, most) = (row.bar.name, grouped(row.bar.instructions));
        let cost = grouped(row.instructions);
        println!("  {name:<26}{cost:>12}{hypercalls:>11}{copies:>8}{copied:>8}{most:>11}  {verdict}");
    }
    all
}

/// Which calls are made for an operation of each row, and where most is copied.
fn details<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    for (row, (calls, operations)) in rows.filter_map(|row| Some((row, row.calls.as_ref()?))) {
        let share = |count| Share { count, operations: *operations }.to_string();
        let _ = writeln!(text, "{} {}, per operation", row.group, row.bar.name);
        for (what, count) in calls.list() {
            let _ = writeln!(text, "{:>9}  {what}", share(count));
        }
        for (dom0, address, bytes) in calls.places() {
            let who = if dom0 { "dom0" } else { "hypervisor" };
            let _ = writeln!(text, "{:>9}  bytes copied at {address:#x} of {who}", share(bytes));
        }
    }
    text
}

fn in_json<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let objects = rows.map(|row| {
        let mut text = format!(
            "{{\"group\": \"io\", \"part\": \"{}\", \"name\": \"{}\", \"instructions\": {}",
            row.group, row.bar.name, row.instructions
        );
        for (name, share) in ["hypercalls", "grant_copies", "copied_bytes"].into_iter().zip(row.shares()) {
            let value = share.map_or_else(|| "null".to_owned(), |share| share.to_string());
            // Writing to a string can't fail.
            let _ = write!(text, ", \"{name}\": {value}");
        }
        text + "}"
    });
    format!("[\n  {}\n]\n", objects.collect::<Vec<_>>().join(",\n  "))
}
