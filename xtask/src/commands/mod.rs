//! The commands of `./x`, one file each. Each has its arguments as a `clap` struct and a function that does it.

pub mod bench;
pub mod build;
pub mod image;
pub mod lint;
pub mod run;
pub mod test;

use crate::{
    archive,
    build::Built,
    image::Imager,
    machine::{Machine, Overrides},
    paths,
};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Arguments of all commands that use a machine file.
#[derive(Args, Debug)]
pub struct MachineArgs {
    /// Machine file [default: machines/default.toml]
    #[arg(value_name = "MACHINE.TOML")]
    machine: Option<PathBuf>,
}

impl MachineArgs {
    fn path(&self) -> PathBuf {
        self.machine.clone().unwrap_or_else(|| paths::root().join("machines/default.toml"))
    }

    fn load(&self, overrides: Overrides) -> Result<Machine> {
        Machine::load(&self.path(), overrides)
    }

    /// Where images of the machine's disks are kept from one run to the next.
    fn disks(&self) -> PathBuf {
        paths::target().join("disks").join(self.path().file_stem().unwrap_or_default())
    }
}

/// Builds everything that goes into an image of `machine`: the image maker and the boot archive.
fn prepare(machine: &Machine) -> Result<(Built, Imager, Vec<u8>)> {
    let built = crate::build::bare_metal()?;
    let imager = Imager::build(&built)?;
    let archive = archive::make(machine, &built)?;
    Ok((built, imager, archive))
}
