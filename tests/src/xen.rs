//! Debian's Xen, the yardstick: where it comes from, and one boot of it.

use crate::{
    guest::Verdict,
    scenario::LIMIT,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use xtask::{
    build,
    machine::{Chipset, Firmware, Memory},
    paths, step,
    qemu::{Accel, Hardware, Session},
};

/// The package.
const PACKAGE: &str = "xen-hypervisor-4.17-amd64";
/// The hypervisor in it, and what it is called once unpacked.
const IMAGE: &str = "xen-4.17-amd64";
/// Its command line: everything to the serial line, and a first domain of the size that tests on Pavise have.
const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem=64M";

/// Xen, ready to boot.
pub struct Xen {
    kernel: PathBuf,
}

impl Xen {
    /// Finds Xen under `target/xen`, or has apt download it to there. It is not installed.
    ///
    /// # Errors
    /// When apt can't, in one line.
    pub fn get() -> Result<Xen> {
        let folder = paths::target().join("xen");
        let kernel = folder.join(IMAGE);
        if !kernel.exists() {
            fs::create_dir_all(&folder)?;
            fetch(&folder, &kernel).with_context(|| format!("cannot get {PACKAGE}"))?;
        }
        Ok(Xen { kernel })
    }

    /// Boots the self-test as the first domain and lets it tell `story`.
    ///
    /// # Errors
    /// When QEMU can't be started.
    pub fn tell(&self, story: &str, hardware: &Hardware, log: &Path) -> Result<Verdict> {
        // The name of a module must have neither a blank nor a comma in it; the path of the repository may.
        let folder = tempfile::tempdir()?;
        let module = folder.path().join("selftest");
        fs::copy(build::guest("selftest"), &module)?;
        let module = format!("{} story={story}", module.display());
        let qemu = hardware.boot_kernel(&self.kernel, COMMAND_LINE, &module)?;
        let mut session = Session::start(&qemu, log, LIMIT)?;
        let ended = session.wait_exit();
        let verdict = Verdict::find(story, &session.text());
        Ok(verdict.explained(|| format!("Xen ended with {ended:?}; {}", session.last_words())))
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
        accel: Accel::Tcg,
        icount: false,
    }
}

fn fetch(folder: &Path, kernel: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(folder)?;
    let in_work = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(work.path());
        command
    };
    eprintln!("- downloading {PACKAGE} (once)");
    output(in_work("apt-get").args(["download", PACKAGE]))?;
    let package = fs::read_dir(work.path())?.flatten().map(|entry| entry.path()).next();
    let package = package.context("apt-get download left no file")?;
    output(in_work("dpkg").arg("-x").arg(package).arg("root"))?;
    let image = output(in_work("gzip").arg("-dc").arg(format!("root/boot/{IMAGE}.gz")))?;
    ensure!(image.starts_with(b"\x7fELF"), "{IMAGE}.gz has no ELF file in it");
    // By way of another name: a kernel that is there is whole.
    let unpacked = work.path().join(IMAGE);
    fs::write(&unpacked, image)?;
    Ok(fs::rename(unpacked, kernel)?)
}

/// What a command prints; the last line of its complaint if it fails.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = step::shown(command);
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}", complaint.trim().lines().last().unwrap_or("no reason given"));
    }
    Ok(output.stdout)
}
