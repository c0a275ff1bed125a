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
    /// The machine file
    #[arg(value_name = "MACHINE.TOML")]
    machine: Option<PathBuf>,
}

impl MachineArgs {
    fn load(&self, overrides: Overrides) -> Result<Machine> {
        let default = || paths::root().join("machines/default.toml");
        Machine::load(&self.machine.clone().unwrap_or_else(default), overrides)
    }
}

/// Builds everything that goes into an image of `machine`: the image maker and the boot archive.
fn prepare(machine: &Machine) -> Result<(Built, Imager, Vec<u8>)> {
    let built = crate::build::bare_metal()?;
    let imager = Imager::build(&built)?;
    let archive = archive::make(machine, &built)?;
    Ok((built, imager, archive))
}
