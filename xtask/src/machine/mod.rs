//! Machine files: which domains a machine has, and the machine that QEMU shall be.
//!
//! `machines/default.toml` explains the format to its users. [`Machine::load`] reads a file, checks everything that
//! can be checked without booting, and reports all mistakes at once, each with its line.

mod disks;
mod dom0;
mod drivers;
mod mistake;
mod networks;
mod parse;
mod reader;
mod scheduling;
mod values;

#[cfg(test)]
mod tests;

pub use disks::{Content, Disk, DomainDisk, Interface, Partition, Source};
pub use dom0::{Dom0, NAME as DOM0};
pub use mistake::{Mistake, Mistakes};
pub use networks::{DomainNetwork, Forward, Network};
pub use values::{Chipset, Emulator, Firmware, Memory};

use crate::{build, debian, initramfs::Extra};
use anyhow::{Context, Result};
use boot_archive::{LogLevel, Scheduling, WhenAllStopped, Xpti};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Least and most memory of a machine.
const MACHINE_MEMORY: (Memory, Memory) = (Memory::mib(256), Memory::gib(64));

/// Least memory of a domain: kernel, page tables and start-of-day frames, and something to work with.
const LEAST_DOMAIN_MEMORY: Memory = Memory::mib(4);

/// Log levels by their words.
const LOG_LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Most CPUs of a machine: what we test with. The hypervisor starts up to 64.
const MAX_CPUS: u32 = 8;

/// A machine: what the hypervisor is told, and what QEMU is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Least important hypervisor message that is printed.
    pub log_level: LogLevel,
    /// What happens once no domain runs any more.
    pub when_all_stopped: WhenAllStopped,
    /// Whether guests run with the hypervisor's memory unmapped.
    pub xpti: Xpti,
    /// The control domain that creates the others. Without it the hypervisor does, and there are no devices.
    pub dom0: Option<Dom0>,
    /// The domains, in the order in which they are built.
    pub domains: Vec<Domain>,
    /// Who plays the machine. Machine files are for QEMU.
    pub emulator: Emulator,
    /// QEMU's firmware, unless the command line asks for another.
    pub firmware: Firmware,
    /// QEMU's chipset.
    pub chipset: Chipset,
    /// CPU model, as QEMU's `-cpu` takes it, or as Bochs calls it.
    pub cpu: String,
    /// Number of physical CPUs.
    pub cpus: u32,
    /// Physical memory.
    pub memory: Memory,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Its network device.
    pub network: Option<Network>,
    /// What else QEMU is told: arguments for further devices.
    pub devices: Vec<String>,
}

/// One domain of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Name, unique on the machine.
    pub name: String,
    /// The guest kernel.
    pub kernel: Kernel,
    /// It controls the other domains.
    pub control: bool,
    /// An initial RAM disk.
    pub ramdisk: Option<Ramdisk>,
    /// The guest kernel's command line.
    pub command_line: String,
    /// The domain's memory.
    pub memory: Memory,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Its part of the CPUs.
    pub scheduling: Scheduling,
    /// Its disks, which the control domain gives it.
    pub disks: Vec<DomainDisk>,
    /// Its network devices, which the control domain gives it.
    pub networks: Vec<DomainNetwork>,
}

/// Where a guest kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// One of this repository's own ([`build::GUESTS`]), built before it is used.
    Built(String),
    /// One of Debian's ([`debian::KERNELS`]), fetched before it is used.
    Debian(String),
    /// An ELF file or a bzImage.
    File(PathBuf),
}

impl Kernel {
    /// The kernel's file: ELF or a bzImage.
    ///
    /// # Errors
    /// When it can't be fetched.
    pub fn path(&self) -> Result<PathBuf> {
        match self {
            Self::Built(name) => Ok(build::guest(name)),
            Self::Debian(name) => debian::KernelPackage::get(name)?.image(),
            Self::File(path) => Ok(path.clone()),
        }
    }
}

/// Where a RAM disk comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ramdisk {
    /// One that is made of Debian's busybox, the kernel's modules, and these files.
    Busybox(Vec<Extra>),
    /// A file.
    File(PathBuf),
}

/// What the command line says instead of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// Physical memory.
    pub memory: Option<Memory>,
    /// Number of physical CPUs.
    pub cpus: Option<u32>,
}

impl Machine {
    /// A machine without domains, for programs that make theirs: 512 MiB, one CPU of QEMU's fullest model, BIOS.
    pub fn empty() -> Self {
        Self {
            log_level: LogLevel::Info,
            when_all_stopped: WhenAllStopped::PowerOff,
            xpti: Xpti::Auto,
            dom0: None,
            domains: Vec::new(),
            emulator: Emulator::Qemu,
            firmware: Firmware::Bios,
            chipset: Chipset::Q35,
            cpu: "max".to_owned(),
            cpus: 1,
            memory: Memory::mib(512),
            disks: Vec::new(),
            network: None,
            devices: Vec::new(),
        }
    }

    /// Reads and checks a machine file.
    ///
    /// # Errors
    /// [`Mistakes`] when something in the file is wrong; another error when it can't be read.
    pub fn load(path: &Path, overrides: Overrides) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read machine file {}", path.display()))?;
        Ok(parse::parse(path, &text, overrides)?)
    }
}

/// What of a machine's memory the domains can't have: 24 bytes per frame for the frame table, 8 for the
/// machine-to-physical table in steps of 2 MiB, and 48 MiB for the hypervisor's image, heap and stacks, firmware and boot
/// loader.
fn hypervisor_memory(machine: Memory) -> Memory {
    let tables = machine.pages() * 24 + (machine.pages() * 8).next_multiple_of(2 << 20);
    Memory::mib(48 + tables.div_ceil(1 << 20))
}
