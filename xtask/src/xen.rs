//! Debian's Xen, the oracle of tests and the yardstick of figures: where it comes from, and a boot of it.

use crate::{
    machine::{Chipset, Firmware, Memory},
    paths,
    qemu::{Accel, Hardware},
    session::Session,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Prints where Xen is, and fetches it first where it isn't there.
const FETCH: &str = "scripts/fetch-xen";

/// How far above the addresses of its file Xen runs, once it has set up its page tables.
pub const VIRTUAL_OFFSET: u64 = 0xffff_82d0_4000_0000;

/// Xen's command line: everything to the serial line.
const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all";

/// Xen, ready to boot.
pub struct Xen {
    kernel: PathBuf,
}

/// The domain that Xen starts by itself.
pub struct FirstDomain<'a> {
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its RAM disk.
    pub ramdisk: Option<Vec<u8>>,
    /// Its kernel's command line.
    pub command_line: &'a str,
    /// Its memory.
    pub memory: Memory,
    /// Its vCPUs.
    pub vcpus: u32,
}

impl FirstDomain<'_> {
    /// The memory that domains of our own guest kernels have, on Pavise too.
    pub const MEMORY: Memory = Memory::mib(64);
}

impl Xen {
    /// Finds Xen, or has apt download it. It is not installed.
    ///
    /// # Errors
    /// When that can't be done, with the reason in one line.
    pub fn get() -> Result<Xen> {
        let output = Command::new(paths::root().join(FETCH)).output().with_context(|| format!("cannot run {FETCH}"))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("no Xen to compare with: {}", complaint.trim().lines().last().unwrap_or(FETCH));
        }
        Ok(Xen { kernel: PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()) })
    }

    /// Its file: 32-bit ELF, as Multiboot wants it.
    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    /// Boots Xen with its first domain. `arguments` are more of QEMU's; the output goes to the file `log` too.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn boot(
        &self,
        domain: &FirstDomain<'_>,
        hardware: &Hardware,
        arguments: &[String],
        log: &Path,
        limit: Duration,
    ) -> Result<Session> {
        // The name of a module must have neither a blank nor a comma in it; the path of the repository may.
        let folder = tempfile::tempdir()?;
        let module = folder.path().join("guest");
        fs::copy(&domain.kernel, &module).with_context(|| format!("cannot copy {}", domain.kernel.display()))?;
        let mut modules = format!("{} {}", module.display(), domain.command_line);
        if let Some(bytes) = &domain.ramdisk {
            let ramdisk = folder.path().join("ramdisk");
            fs::write(&ramdisk, bytes).with_context(|| format!("cannot write {}", ramdisk.display()))?;
            modules = format!("{modules},{}", ramdisk.display());
        }
        let mut qemu = hardware.boot_kernel(&self.kernel, &options(domain), &modules)?;
        qemu.args(arguments);
        Ok(Session::start(&qemu, log, limit)?.keeping(folder))
    }
}

/// Xen's command line for its first domain.
fn options(domain: &FirstDomain<'_>) -> String {
    let memory = format!("{COMMAND_LINE} dom0_mem={}M", domain.memory.as_mib());
    match domain.vcpus {
        1 => memory,
        // With its default scheduler, credit2, a vCPU that could run is sometimes left alone for good in QEMU.
        vcpus => format!("{memory} dom0_max_vcpus={vcpus} sched=credit"),
    }
}

/// Hardware that Xen boots on from a kernel file: as the tests on Pavise have it, but for the memory it needs itself.
pub fn hardware(cpu: &str) -> Hardware {
    Hardware {
        firmware: Firmware::Bios,
        chipset: Chipset::Q35,
        cpu: cpu.to_owned(),
        cpus: 1,
        memory: Memory::mib(512),
        devices: Vec::new(),
        accel: Accel::Tcg,
        icount: false,
    }
}
