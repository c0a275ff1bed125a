//! Linux with a disk and a network: its own drivers, dom0's back ends, and the host, which looks at both from outside.

use super::{
    COMPLAINTS, DOM0_PROMPT, Guest, LIMIT, NAME, NEIGHBOUR, PROMPT, QUIET, SUITE, as_much_is_free, ask, free, next,
    told,
};
use crate::{
    context::{Context, log_file},
    outside,
    pattern::{Pattern, said_by},
    running::Running,
    scenario::Step,
    suite::{Ending, Test},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    ops::Range,
    path::Path,
};
use xtask::{
    archive,
    machine::{Content, Disk, DomainDisk, DomainNetwork, Forward, Interface, Machine, Network, Source},
};

const MIB: usize = 1 << 20;
/// The disk's size, the part of it that Linux reads, and the part that it writes.
const DISK: usize = 16 * MIB;
const READ: Range<usize> = 0..4 * MIB;
const WRITTEN: Range<usize> = 8 * MIB..14 * MIB;
/// MiB from the host to Linux and back.
const ECHOED: u64 = 2;

/// Linux asks by DHCP, first and alone; its neighbour was told its address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const NEIGHBOUR_LINE: &str = "name=rust address=10.0.2.101/24";

/// What Linux reads is what the host wrote, what it writes is what the host finds, also over the network. It keeps a file
/// system on the disk. It is destroyed in the middle of writes, and finds its devices when it starts again.
pub fn test() -> Test {
    let log = log_file(&format!("{SUITE}/disk-and-network"));
    Test::machine(SUITE, "disk-and-network".to_owned(), move |context| {
        let guest = Guest { vcpus: 2, ..Guest::SMALL };
        if let Some(skipped) = guest.is_missing() {
            return Ok(skipped);
        }
        let image = log.with_extension("disk");
        fs::create_dir_all(log.parent().context("a log in no folder")?)?;
        // Each sector is another.
        let before: Vec<u8> = (0..DISK).map(|at| (at ^ at >> 9 ^ at >> 17).to_le_bytes()[0]).collect();
        fs::write(&image, &before)?;
        play(context, guest, &log, &image, &before)?;
        fs::remove_file(&image)?;
        Ok(Ending::Passed)
    })
}

fn play(context: &Context, guest: Guest, log: &Path, image: &Path, before: &[u8]) -> Result<()> {
    let [http, echo] = outside::free_ports();
    let machine = with_devices(guest.machine()?, image, [(http, 80), (echo, 7)]);
    let archive = archive::make(&machine, &context.pavise()?.built)?;
    let mut running = Running::boot(context, &machine, &archive, log, LIMIT)?;
    let mut take = |steps: Vec<Step>| steps.iter().try_for_each(|step| step.take(&mut running));
    take(reads_and_writes())?;
    seen_from_outside(http, image, before)?;
    outside::echo(echo, ECHOED).context("the echo")?;
    take(file_system())?;
    take(destroyed_and_created())
}

fn with_devices(machine: Machine, image: &Path, ports: [(u16, u16); 2]) -> Machine {
    let content = Content::Image(image.to_owned());
    let disk = DomainDisk { name: "xvda".to_owned(), source: Source::Disk("data".to_owned()), read_only: false };
    let forwards = ports.map(|(host, port)| Forward { host, to: SocketAddrV4::new(ADDRESS, port) });
    let mut machine = Machine {
        disks: vec![Disk { name: "data".to_owned(), content, interface: Interface::Virtio }],
        network: Some(Network { forwards: forwards.into() }),
        ..machine
    };
    for (domain, last) in machine.domains.iter_mut().zip(1..) {
        let mac = [0x00, 0x16, 0x3e, 0, 0, last];
        domain.networks = vec![DomainNetwork { mac, rate: None, any_source: false, backend: None }];
        if domain.name == NAME {
            domain.disks = vec![disk.clone()];
        } else {
            NEIGHBOUR_LINE.clone_into(&mut domain.command_line);
        }
    }
    machine
}

/// What the drivers say of the devices.
fn found() -> Vec<Pattern> {
    vec![
        said_by(NAME, r"\[ .*blkfront: xvda: flush diskcache: enabled; .* indirect descriptors: enabled; .*"),
        said_by(NAME, r"\[ .*xen_netfront: Initialising Xen virtual ethernet driver"),
        said_by(NAME, r"udhcpc: lease of 10\.0\.2\.15 obtained from 10\.0\.2\.2, .*"),
    ]
}

/// The devices are as the machine file says, and in use. Files for the host are served.
fn reads_and_writes() -> Vec<Step> {
    let steps = [
        told(QUIET, "quiet"),
        told("cat /sys/block/xvda/size", &(DISK / 512).to_string()),
        told("cat /sys/block/xvda/queue/write_cache", "write back"),
        told("echo $(ls /sys/block/xvda/mq) $(ls /sys/class/net/eth0/queues)", "0 1 rx-0 rx-1 tx-0 tx-1"),
        // Without indirect segments a request has 11 of them.
        told("cat /sys/block/xvda/queue/max_segments", "32"),
        told("cat /sys/class/net/eth0/address", "00:16:3e:00:00:01"),
        told("ip addr show eth0", r" +inet 10\.0\.2\.15/24 .*eth0"),
        told("ping -c 5 10.0.2.2", "5 packets transmitted, 5 packets received, 0% packet loss"),
        told("ping -c 5 10.0.2.101", "5 packets transmitted, 5 packets received, 0% packet loss"),
        told("wget -q -O - http://10.0.2.101/", r"Hello from rust at 10\.0\.2\.101, request 1\."),
        told("mkdir /tmp/www; dd if=/dev/xvda of=/tmp/www/read bs=1M count=4", r"4\+0 records out"),
        told("dd if=/dev/urandom of=/tmp/www/new bs=1M count=6", r"6\+0 records out"),
        told("dd if=/tmp/www/new of=/dev/xvda bs=1M seek=8 conv=fsync", r"6\+0 records out"),
        told("awk '{ print \"flushes\", $16 }' /sys/block/xvda/stat", r"flushes [1-9]\d*"),
        told("echo 3 >/proc/sys/vm/drop_caches && echo dropped", "dropped"),
        told("dd if=/dev/xvda bs=1M skip=8 count=6 | cmp - /tmp/www/new && echo same", "same"),
        told("httpd -h /tmp/www; nc -ll -p 7 -e cat </dev/null >/dev/null & echo serving", "serving"),
    ];
    let booted = found().into_iter().chain([PROMPT.into()]).collect();
    [Step::Expect(booted)].into_iter().chain(steps.into_iter().flatten()).collect()
}

/// What Linux serves is what was on the disk, and what is now; the rest of the disk has not changed.
fn seen_from_outside(http: u16, image: &Path, before: &[u8]) -> Result<()> {
    let after = fs::read(image).context("the disk's image")?;
    let (read, new) = (outside::page(http, "read")?, outside::page(http, "new")?);
    ensure!(read == before[READ], "Linux read something else than the host had written");
    ensure!(new == after[WRITTEN], "the host finds something else than Linux had written");
    ensure!(before[..WRITTEN.start] == after[..WRITTEN.start], "something changed before what was written");
    ensure!(before[WRITTEN.end..] == after[WRITTEN.end..], "something changed behind what was written");
    Ok(())
}

/// A file survives that its file system is taken away. What Linux served went out in pieces larger than a packet.
fn file_system() -> Vec<Step> {
    let steps = [
        told("awk '/eth0/ { print ($10 / $11 > 3000 ? \"large\" : \"small\") }' /proc/net/dev", "large"),
        told("mke2fs /dev/xvda >/dev/null && echo made", "made"),
        told("mount /dev/xvda /mnt && cp /tmp/www/new /mnt && umount /mnt && echo copied", "copied"),
        told("mount /dev/xvda /mnt && cmp /mnt/new /tmp/www/new && umount /mnt && echo same", "same"),
        told(&format!("dmesg | grep -cE '{COMPLAINTS}|error'"), "0"),
    ];
    steps.into_iter().flatten().collect()
}

/// Destroyed twice in the middle of writes. The second time leaves nothing behind that the first had not.
fn destroyed_and_created() -> Vec<Step> {
    let destroy = |number: u32| {
        let write = "while :; do dd if=/dev/zero of=/dev/xvda bs=1M; done 2>/dev/null & echo writes";
        let steps = [
            told(write, "writes"),
            told("sleep 1; echo slept", "slept"),
            next(NEIGHBOUR),
            next("dom0"),
            ask(&format!("destroy {NAME}"), vec![said_by("dom0", &format!(r"d{number} \({NAME}\) was destroyed"))]),
            next(NEIGHBOUR),
            next("dom0"),
            free(),
        ];
        steps.into_iter().flatten()
    };
    let again = found().into_iter().chain([said_by("dom0", &format!(r"d3 \({NAME}\): .*")), DOM0_PROMPT.into()]);
    let create = [
        ask(&format!("create {NAME}"), again.collect()),
        ask(&format!("console {NAME}"), vec![PROMPT.into()]),
        told("ping -c 2 10.0.2.2", "2 packets transmitted, 2 packets received, 0% packet loss"),
    ];
    let create = create.into_iter().flatten();
    destroy(1).chain(create).chain(destroy(3)).chain([Step::check(as_much_is_free)]).collect()
}
