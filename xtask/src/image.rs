//! Makes disk images, through the `imager` process.

use crate::{build, machine::Firmware, paths, step};
use anyhow::{Context, Result, ensure};
use std::{fs, path::Path, path::PathBuf, process::Command};

/// Makes disk images from the hypervisor and boot archives.
#[derive(Clone, Debug)]
pub struct Imager {
    program: PathBuf,
    hypervisor: PathBuf,
}

impl Imager {
    /// Builds the `imager` program. The first time, this compiles the boot loader, which takes minutes.
    ///
    /// # Errors
    /// When the build fails.
    pub fn build(built: &build::Built) -> Result<Self> {
        let program = paths::target().join("debug/imager");
        let what = if program.exists() {
            "building the image maker"
        } else {
            "building the boot loader (once; takes some minutes)"
        };
        let build = || {
            let mut command = build::cargo();
            command.args(["build", "-p", "imager"]);
            command
        };
        let first = step::run(what, &mut build());
        // The boot loader's build installs its stages with cargo, which asks the registry even for what is there.
        if first.as_ref().is_err_and(|error| is_for_lack_of_network(&error.to_string())) {
            step::run("the same without the network", build().env("CARGO_NET_OFFLINE", "true")).or(first)?;
        } else {
            first?;
        }
        Ok(Self { program, hypervisor: built.hypervisor_stripped.clone() })
    }

    /// Writes the image at `image`, with the archive beside it in a file of its own.
    ///
    /// # Errors
    /// When a file can't be written, or the archive is too large for the firmware's boot loader.
    pub fn make(&self, firmware: Firmware, archive: &[u8], image: &Path) -> Result<()> {
        let archive_path = image.with_extension("archive");
        fs::create_dir_all(image.parent().unwrap_or(Path::new(".")))?;
        fs::write(&archive_path, archive).with_context(|| format!("cannot write {}", archive_path.display()))?;
        let mut command = Command::new(&self.program);
        command.arg(firmware.word()).args([&self.hypervisor, &archive_path]).arg(image);
        let output = command.output().with_context(|| format!("cannot run {}", self.program.display()))?;
        ensure!(
            output.status.success(),
            "making {} failed: {}",
            paths::shown(image),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// Does cargo's output say that it could not reach the registry?
fn is_for_lack_of_network(output: &str) -> bool {
    ["config.json", "failed to download", "network"].iter().any(|sign| output.contains(sign))
}
