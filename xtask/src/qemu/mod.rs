//! QEMU's command line for a machine; [`Monitor`], commands to it.

mod monitor;

pub use monitor::Monitor;

use crate::machine::{Chipset, Firmware, Machine, Memory, Network};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The emulator. Debian's package `qemu-system-x86` has it.
const PROGRAM: &str = "qemu-system-x86_64";

/// Where distributions keep UEFI firmware that fits into one file (Debian and Ubuntu: package `ovmf`).
const UEFI_FIRMWARE: [&str; 3] =
    ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd", "/usr/share/edk2/x64/OVMF.4m.fd"];

/// I/O port of the exit device in every machine that QEMU plays; see `boot_archive::WhenAllStopped::DebugExit`.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;

/// The CPU model for counting instructions. QEMU 10 stops with "Bad icount read" when the CPU offers x2APIC or the TSC
/// deadline timer.
pub const COUNTING_CPU: &str = "max,-x2apic,-tsc-deadline";

/// How QEMU executes guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// In software: the same everywhere.
    Tcg,
    /// On the CPU's virtualization, at full speed.
    Kvm,
}

impl Accel {
    /// KVM where it is of use. `/dev/kvm` may exist on a CPU without VT-x or AMD-V, and is slower than TCG there.
    pub fn detect() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let has_virtualization = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
        let kvm_opens = || fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        if has_virtualization && kvm_opens() { Self::Kvm } else { Self::Tcg }
    }
}

/// What QEMU shall emulate.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// Firmware; the image must be made for it.
    pub firmware: Firmware,
    /// Board.
    pub chipset: Chipset,
    /// CPU model, as for `-cpu`.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: Memory,
    /// Arguments for further devices.
    pub devices: Vec<String>,
    /// How code is executed.
    pub accel: Accel,
    /// Count instructions: one instruction is one virtual nanosecond. Nothing in the machine follows real time then: while
    /// all CPUs sleep its clock jumps to the next timer, the date is always the same, and so are random numbers.
    pub icount: bool,
}

impl Hardware {
    /// The hardware of a machine file.
    pub fn of(machine: &Machine, accel: Accel) -> Self {
        Self {
            firmware: machine.firmware,
            chipset: machine.chipset,
            cpu: machine.cpu.clone(),
            cpus: machine.cpus,
            memory: machine.memory,
            devices: machine.devices.iter().cloned().chain(machine.network.iter().flat_map(Network::args)).collect(),
            accel,
            icount: false,
        }
    }

    /// The arguments, up to what to boot. The machine has the exit device of the tests at [`DEBUG_EXIT_PORT`].
    ///
    /// # Errors
    /// When no UEFI firmware is installed and it is asked for.
    fn args(&self) -> Result<Vec<String>> {
        let accel = match self.accel {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
        };
        let cpus = self.cpus.to_string();
        let memory = format!("{}M", self.memory.as_mib());
        let mut args = vec!["-machine", self.chipset.word(), "-accel", accel, "-cpu", &self.cpu, "-smp", &cpus];
        args.extend(["-m", &memory, "-display", "none", "-nic", "none", "-no-reboot"]);
        let exit_device = format!("isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4");
        args.extend(["-device", &exit_device]);
        let firmware = match self.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(uefi_firmware()?.display().to_string()),
        };
        if let Some(firmware) = &firmware {
            args.extend(["-bios", firmware]);
        }
        if self.icount {
            args.extend(["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2026-01-01,clock=vm"]);
        }
        args.extend(self.devices.iter().map(String::as_str));
        Ok(args.into_iter().map(str::to_owned).collect())
    }

    /// A QEMU that boots a disk image, whose file is not written to.
    ///
    /// # Errors
    /// When no UEFI firmware is installed and it is asked for.
    pub fn boot_image(&self, image: &Path) -> Result<Command> {
        let mut command = Command::new(PROGRAM);
        command.args(self.args()?);
        if self.firmware == Firmware::Bios {
            // The boot loader writes to the screen, pixel by pixel, on the largest there is: this one is small.
            command.args(["-vga", "cirrus"]);
        }
        command.arg("-drive").arg(format!("format=raw,snapshot=on,file={}", image.display()));
        Ok(command)
    }

    /// A QEMU that boots a Multiboot kernel directly, with its modules.
    ///
    /// # Errors
    /// When no UEFI firmware is installed and it is asked for.
    pub fn boot_kernel(&self, kernel: &Path, append: &str, modules: &str) -> Result<Command> {
        let mut command = Command::new(PROGRAM);
        command.args(self.args()?).arg("-kernel").arg(kernel).args(["-append", append, "-initrd", modules]);
        Ok(command)
    }
}

fn uefi_firmware() -> Result<PathBuf> {
    let found = UEFI_FIRMWARE.iter().map(PathBuf::from).find(|path| path.exists());
    found
        .with_context(|| format!("no UEFI firmware for QEMU at {}: install the package ovmf", UEFI_FIRMWARE.join(", ")))
}
