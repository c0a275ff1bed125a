//! The group `linux`: what the everyday operations of a Linux process cost, with Debian's kernel as a guest of Pavise, and
//! of Xen as its first domain. The program `linux-bench` counts them; the kernel's own clock tells how long its start took.

use super::report::{Cost, Row, grouped};
use crate::{
    build,
    commands::prepare,
    debian::KernelPackage,
    initramfs::{self, Extra},
    machine::{Dom0, Domain, Firmware, Kernel, Machine, Memory, Ramdisk},
    paths,
    qemu::{Accel, Hardware, Session},
    xen::{self, FirstDomain, Xen},
};
use anyhow::{Context, Result};
use boot_archive::Scheduling;
use std::{fs, time::Duration};

/// Time for one run.
const LIMIT: Duration = Duration::from_secs(1800);

/// The program, what its lines begin with, and its last one.
const PROGRAM: &str = "linux-bench";
const MARK: &str = "linux-bench: ";
const DONE: &str = "linux-bench: done";

/// On QEMU before version 9 Linux can't start on Xen with SMAP: see the hypervisor's `emulate::iretq`. Without it on both, so
/// that they are compared on the same CPU.
const CPU: &str = "max,-x2apic,-tsc-deadline,-smap";

const KERNEL: &str = "amd64";
const COMMAND_LINE: &str = "console=hvc0";
const MEMORY: Memory = Memory::gib(1);
const PROMPT: &str = "debian:/root# ";

/// What the kernel says when its own start is over, behind its clock.
const STARTED: &str = "] Run /init as init process";
const START: &str = "start of the kernel, to its first program";

/// Measures, on Xen too if asked for, adds the rows, and prints the table.
///
/// # Errors
/// When a package can't be fetched, or a build or a run fails.
pub fn measure(xen: Option<&Xen>, rows: &mut Vec<Row>) -> Result<()> {
    let extras = [Extra { to: format!("bin/{PROGRAM}"), from: build::linux_program(PROGRAM)? }];
    let ours = figures(on_pavise(&extras)?)?;
    let theirs = xen.map(|xen| on_xen(xen, &extras).and_then(figures)).transpose()?;
    println!("\n{:<44}{:>14}{:>14}{:>7}", "linux, 1 vCPU, 1 GiB", "pavise", "xen", "ratio");
    for (name, count) in ours {
        let on_xen = theirs.as_ref().and_then(|rows| rows.iter().find(|row| row.0 == name)).map(|row| row.1);
        let ratio = on_xen.map(|on_xen| {
            let hundredths = (count * 100).div_ceil(on_xen.max(1));
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        });
        println!(
            "  {name:<42}{:>14}{:>14}{:>7}",
            grouped(count),
            on_xen.map(grouped).unwrap_or_default(),
            ratio.unwrap_or_default()
        );
        let cost = |instructions| Cost { instructions, flushes: None };
        rows.push(Row { group: "linux", name, pavise: Some(cost(count)), xen: on_xen.map(cost) });
    }
    Ok(())
}

fn on_pavise(extras: &[Extra]) -> Result<Session> {
    let linux = Domain {
        name: "debian".to_owned(),
        kernel: Kernel::Debian(KERNEL.to_owned()),
        control: false,
        ramdisk: Some(Ramdisk::Busybox(extras.to_vec())),
        command_line: COMMAND_LINE.to_owned(),
        memory: MEMORY,
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    };
    let machine = Machine {
        firmware: Firmware::Uefi,
        cpu: CPU.to_owned(),
        memory: Memory::mib(MEMORY.as_mib() + 512),
        dom0: Some(Dom0::with_memory(Memory::mib(192))),
        domains: vec![linux],
        ..Machine::empty()
    };
    let (_, imager, archive) = prepare(&machine)?;
    let folder = paths::target().join("bench");
    let image = folder.join("linux-pavise.img");
    imager.make(machine.firmware, &archive, &image)?;
    let hardware = Hardware { icount: true, ..Hardware::of(&machine, Accel::Tcg) };
    Session::start(&hardware.boot_image(&image)?, &folder.join("linux-pavise.log"), LIMIT)
}

fn on_xen(xen: &Xen, extras: &[Extra]) -> Result<Session> {
    let package = KernelPackage::get(KERNEL)?;
    let hardware = Hardware { icount: true, memory: Memory::mib(MEMORY.as_mib() + 512), ..xen::hardware(CPU) };
    let domain = FirstDomain {
        kernel: package.image()?,
        ramdisk: Some(initramfs::make(Some(&package), extras)?),
        command_line: COMMAND_LINE,
        memory: MEMORY,
        vcpus: 1,
    };
    xen.boot(&domain, &hardware, &[], &paths::target().join("bench/linux-xen.log"), LIMIT)
}

/// Has the guest run the program, and returns what it counted.
fn figures(mut session: Session) -> Result<Vec<(String, u64)>> {
    let prompt = session.wait_until(|text| text.contains(PROMPT).then_some(()));
    prompt.with_context(|| format!("Linux has no prompt; {}", session.last_words()))?;
    session.send(&format!("{PROGRAM}\r"))?;
    let done = session.wait_until(|text| text.contains(DONE).then_some(()));
    done.with_context(|| format!("{PROGRAM} did not come to its end; {}", session.last_words()))?;
    let log = fs::read_to_string(session.log()).unwrap_or_else(|_| session.text());
    Ok(rows(&log))
}

/// The rows in what a guest said.
fn rows(output: &str) -> Vec<(String, u64)> {
    let start = output.lines().find_map(|line| {
        let seconds = line.split_once(STARTED)?.0.rsplit_once('[')?.1.trim();
        let (whole, micros) = seconds.split_once('.')?;
        // One instruction is one nanosecond.
        Some((START.to_owned(), whole.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000))
    });
    let counted = output.lines().filter_map(|line| {
        let (name, count) = line.split_once(MARK)?.1.trim_end().rsplit_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    // The time since the machine's reset is mostly the firmware's.
    start.into_iter().chain(counted.filter(|(name, _)| name != "since reset")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_on_either_console() {
        let output = "(debian) [    3.655561] Run /init as init process\n(debian) linux-bench: since reset 9999\n\
                      linux-bench: fork, exit, wait 1111302\r\nlinux-bench: mmap failed: ENOMEM\nlinux-bench: done\n";
        assert_eq!(rows(output), [(START.to_owned(), 3_655_561_000), ("fork, exit, wait".to_owned(), 1_111_302)]);
    }
}
