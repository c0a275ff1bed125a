//! Debian's Xen, the yardstick: where it comes from, and one boot of it.

use crate::{guest::Verdict, scenario::LIMIT};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use xtask::{
    build,
    machine::{Chipset, Firmware, Memory},
    paths,
    qemu::{Accel, Hardware, Session},
};

/// Prints where Xen is, and fetches it first where it isn't there.
const FETCH: &str = "scripts/fetch-xen";

/// Xen's command line: everything to the serial line, and a first domain of the size that tests on Pavise have.
const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem=64M";

/// Xen, ready to boot.
pub struct Xen {
    kernel: PathBuf,
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
