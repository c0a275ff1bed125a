//! QEMU's monitor, from which a machine can be looked at and hurt.

use anyhow::Result;
use std::{path::PathBuf, process::Command};
use tempfile::TempDir;
use xtask::qemu;

/// The place of a machine's monitor. Each command has a connection of its own.
pub struct Monitor {
    /// Names of sockets are short, so it is in a folder of its own.
    folder: TempDir,
}

impl Monitor {
    /// A place for one.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new() -> Result<Monitor> {
        Ok(Monitor { folder: tempfile::tempdir()? })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// Makes a QEMU that is not started yet listen there.
    pub fn add_to(&self, qemu: &mut Command) {
        qemu.args(qemu::Monitor::arguments(&self.socket()));
    }

    /// As [`qemu::Monitor::ask`].
    pub fn command(&self, command: &str) -> Result<Option<String>> {
        qemu::Monitor::connect(&self.socket())?.ask(command)
    }
}
