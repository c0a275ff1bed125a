//! Makes a bootable disk image from the hypervisor's ELF file and a boot archive.
//!
//! Usage: `imager bios|uefi KERNEL ARCHIVE IMAGE`. Run by `xtask`, as a process of its own: the `bootloader` crate
//! behind it takes minutes to build, and this way nothing else waits for it.

mod clusters;

use anyhow::{Context, Result, bail, ensure};
use bootloader::{BootConfig, DiskImageBuilder};
use bootloader_boot_config::LevelFilter;
use std::{env, fs, path::Path, path::PathBuf};

/// Most bytes that kernel and archive may have together in a BIOS image: the boot loader's own files and the file system
/// itself need the rest.
const BIOS_PAYLOAD_LIMIT: u64 = clusters::LIMIT - (3 << 20);

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [firmware, kernel, archive, image] = &args[..] else {
        bail!("usage: imager bios|uefi KERNEL ARCHIVE IMAGE");
    };
    let (kernel, archive, image) = (PathBuf::from(kernel), PathBuf::from(archive), Path::new(image));
    let payload = file_len(&kernel)? + file_len(&archive)?;

    let mut builder = DiskImageBuilder::new(kernel);
    builder.set_ramdisk(archive).set_boot_config(&boot_config());
    match firmware.as_str() {
        "bios" => {
            ensure!(
                payload <= BIOS_PAYLOAD_LIMIT,
                "hypervisor and boot archive have {} MiB together; the BIOS boot loader takes {} MiB at most: \
                 use smaller kernels and RAM disks, or --firmware uefi, which has no such limit",
                payload.div_ceil(1 << 20),
                BIOS_PAYLOAD_LIMIT >> 20,
            );
            builder.create_bios_image(image)?;
            clusters::enlarge(image)
        }
        "uefi" => builder.create_uefi_image(image),
        other => bail!("firmware is '{other}', should be 'bios' or 'uefi'"),
    }
}

fn file_len(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

/// The boot loader stays silent unless something is wrong: the serial line belongs to the hypervisor.
fn boot_config() -> BootConfig {
    let mut config = BootConfig::default();
    config.log_level = LevelFilter::Warn;
    config
}
