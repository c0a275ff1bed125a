//! The three systems that Debian's kernel is measured on. They have the same kernel, RAM disk and CPU, and differ in what
//! they boot from and in the console.

use super::PROGRAM;
use crate::{
    commands::prepare,
    debian::KernelPackage,
    initramfs::{self, Extra},
    machine::{Dom0, Domain, Firmware, Kernel, Machine, Memory, Ramdisk},
    paths,
    qemu::{Accel, COUNTING_CPU, Hardware},
    session::Session,
    xen::{self, FirstDomain, Xen},
};
use anyhow::{Context, Result};
use boot_archive::Scheduling;
use std::{fs, path::PathBuf, time::Duration};

/// The kernel: Debian's newest of this flavour.
pub const KERNEL: &str = "amd64";

/// Time for one run.
const LIMIT: Duration = Duration::from_secs(1800);

/// Linux's memory, and what the machine has for a hypervisor beside that.
const MEMORY: Memory = Memory::gib(1);
const MEMORY_OF_HYPERVISOR: Memory = Memory::mib(512);

/// What the kernel runs on.
#[derive(Clone, Copy)]
pub enum System<'a> {
    /// Our hypervisor, as a guest of dom0.
    Pavise,
    /// Xen, as its first domain.
    Xen(&'a Xen),
    /// The machine itself.
    Native,
}

impl System<'_> {
    /// Its name, in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pavise => "Pavise",
            Self::Xen(_) => "Xen",
            Self::Native => "native",
        }
    }

    /// Boots the kernel of `package`, which starts the program.
    ///
    /// # Errors
    /// When a build fails, or QEMU can't be started.
    pub fn boot(self, package: &KernelPackage, extras: &[Extra]) -> Result<Session> {
        let log = paths::target().join("bench").join(format!("linux-{}.log", self.name().to_lowercase()));
        match self {
            Self::Pavise => {
                let machine = machine(extras);
                let (_, imager, archive) = prepare(&machine)?;
                let image = log.with_extension("img");
                imager.make(machine.firmware, &archive, &image)?;
                let hardware = Hardware { icount: true, ..Hardware::of(&machine, Accel::Tcg) };
                Session::start(&hardware.boot_image(&image)?, &log, LIMIT)
            }
            Self::Xen(xen) => {
                let domain = FirstDomain {
                    kernel: package.image()?,
                    ramdisk: Some(initramfs::make(Some(package), extras)?),
                    command_line: &command_line("hvc0"),
                    memory: MEMORY,
                    vcpus: 1,
                };
                let memory = Memory::mib(MEMORY.as_mib() + MEMORY_OF_HYPERVISOR.as_mib());
                xen.boot(&domain, &hardware(memory), &[], &log, LIMIT)
            }
            Self::Native => {
                // QEMU's options must have no comma in them; the path of the repository may.
                let folder = tempfile::tempdir()?;
                let copy = |name: &str, bytes: Vec<u8>| -> Result<PathBuf> {
                    let path = folder.path().join(name);
                    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
                    Ok(path)
                };
                let ramdisk = copy("ramdisk", initramfs::make(Some(package), extras)?)?;
                let kernel = package.image()?;
                let qemu =
                    hardware(MEMORY).boot_kernel(&kernel, &command_line("ttyS0"), &ramdisk.display().to_string())?;
                Ok(Session::start(&qemu, &log, LIMIT)?.keeping(folder))
            }
        }
    }
}

/// The kernel's command line. Without a shell there is nothing that is typed, at a time that differs.
fn command_line(console: &str) -> String {
    format!("console={console} rdinit=/bin/{PROGRAM}")
}

/// The CPU. On QEMU before version 9 Linux can't start on Xen with SMAP: see the hypervisor's `emulate::iretq`. Without it
/// on all, so that they are compared on the same CPU.
fn cpu() -> String {
    format!("{COUNTING_CPU},-smap")
}

fn hardware(memory: Memory) -> Hardware {
    Hardware { icount: true, memory, ..xen::hardware(&cpu()) }
}

/// Pavise's machine: Linux alone, behind dom0.
fn machine(extras: &[Extra]) -> Machine {
    let linux = Domain {
        name: "debian".to_owned(),
        kernel: Kernel::Debian(KERNEL.to_owned()),
        control: false,
        ramdisk: Some(Ramdisk::Busybox(extras.to_vec())),
        command_line: command_line("hvc0"),
        memory: MEMORY,
        vcpus: 1,
        scheduling: Scheduling::default(),
        disks: Vec::new(),
        networks: Vec::new(),
    };
    Machine {
        firmware: Firmware::Uefi,
        cpu: cpu(),
        memory: Memory::mib(MEMORY.as_mib() + MEMORY_OF_HYPERVISOR.as_mib()),
        dom0: Some(Dom0::with_memory(Memory::mib(192))),
        domains: vec![linux],
        ..Machine::empty()
    }
}
