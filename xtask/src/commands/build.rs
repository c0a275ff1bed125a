//! `./x build`: compiles the hypervisor and the guests, and says where they are.

use crate::{build, paths};
use anyhow::Result;
use clap::Args;

/// Build the hypervisor and its guest kernels
#[derive(Args, Debug)]
pub struct BuildArgs {}

/// Does it.
///
/// # Errors
/// When the build fails.
pub fn build(_args: &BuildArgs) -> Result<()> {
    let built = build::bare_metal()?;
    println!("hypervisor      {}", paths::shown(&built.hypervisor_stripped));
    println!("  with symbols  {}", paths::shown(&built.hypervisor));
    for name in build::GUESTS {
        println!("guest:{name:<9} {}", paths::shown(&build::guest(name)));
    }
    Ok(())
}
