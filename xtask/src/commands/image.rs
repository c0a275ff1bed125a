//! `./x image`: disk images for real hardware.

use super::{MachineArgs, prepare};
use crate::{
    machine::{Firmware, Overrides},
    paths,
};
use anyhow::Result;
use clap::Args;

/// Write target/pavise-bios.img and target/pavise-uefi.img
///
/// Each is a whole disk: write it to a USB stick with
/// `dd if=target/pavise-uefi.img of=/dev/sdX bs=4M conv=fsync`
/// and boot from that. Everything on the stick is lost.
#[derive(Args, Debug)]
pub struct ImageArgs {
    #[command(flatten)]
    machine: MachineArgs,
}

/// Does it.
///
/// # Errors
/// When the machine file has mistakes, or a build fails.
pub fn image(args: &ImageArgs) -> Result<()> {
    let machine = args.machine.load(Overrides::default())?;
    let (_, imager, archive) = prepare(&machine)?;
    for firmware in Firmware::ALL {
        let image = paths::target().join(format!("pavise-{}.img", firmware.word()));
        imager.make(firmware, &archive, &image)?;
        println!("{}: {} KiB", paths::shown(&image), std::fs::metadata(&image)?.len() >> 10);
    }
    Ok(())
}
