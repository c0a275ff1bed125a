//! `./x run`: boots a machine in QEMU, on this terminal.

use super::{MachineArgs, prepare};
use crate::{
    disk,
    machine::{Firmware, Memory, Overrides},
    paths,
    qemu::{Accel, Hardware},
};
use anyhow::{Context, Result};
use clap::Args;
use std::{fs, io::IsTerminal, os::unix::process::CommandExt, process};

/// Boot a machine in QEMU and show its consoles; Ctrl-A X leaves
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Firmware to boot with [default: the machine file's]
    #[arg(long)]
    firmware: Option<Firmware>,
    /// How QEMU executes code [default: kvm where the CPU has VT-x or AMD-V, else tcg]
    #[arg(long)]
    accel: Option<Accel>,
    /// Physical memory, such as "1 GiB" [default: the machine file's]
    #[arg(long)]
    memory: Option<Memory>,
    /// Number of physical CPUs [default: the machine file's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: Option<u32>,
    /// Wait for GDB on port 1234 before the first instruction
    #[arg(long)]
    gdb: bool,
}

/// Does it. On success QEMU takes the place of this program.
///
/// # Errors
/// When the machine file has mistakes, a build fails, or QEMU can't be started.
pub fn run(args: &RunArgs) -> Result<()> {
    let mut machine = args.machine.load(Overrides { memory: args.memory, cpus: args.cpus })?;
    let (built, imager, archive) = prepare(&machine)?;
    machine.devices.extend(disk::attach(&machine.disks, &args.machine.disks())?);
    let mut hardware = Hardware::of(&machine, args.accel.unwrap_or_else(Accel::detect));
    hardware.firmware = args.firmware.unwrap_or(hardware.firmware);

    // Named by process, so that two machines can run side by side.
    let folder = paths::target().join("run");
    remove_old_images(&folder);
    let image = folder.join(format!("{}.img", process::id()));
    imager.make(hardware.firmware, &archive, &image)?;

    let mut qemu = hardware.boot_image(&image)?;
    qemu.args(["-serial", "mon:stdio"]);
    if args.gdb {
        qemu.args(["-gdb", "tcp:localhost:1234", "-S"]);
        eprintln!("gdb {} -ex 'target remote :1234'", paths::shown(&built.hypervisor));
    }
    if std::io::stdout().is_terminal() {
        eprintln!("booting; Ctrl-A X leaves, Ctrl-T sends the keys to the next domain");
    }
    Err(qemu.exec()).with_context(|| format!("cannot start {}: is QEMU installed?", qemu.get_program().display()))
}

/// Removes the images of runs that have ended. `run` can't remove its own: QEMU takes its place.
fn remove_old_images(folder: &std::path::Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
        if !std::path::Path::new("/proc").join(id).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
