//! The file system of a BIOS image, laid out for its reader.
//!
//! The boot loader's second stage asks the firmware for 16 KiB per cluster, however small that is, and for a piece of the
//! FAT before the next. In the clusters of 1 or 2 KiB that the image comes with, it reads everything 8 or 16 times.
//!
//! It also knows no volume of more than 65,535 sectors. So the volume's sectors are larger than the disk's, as FAT allows.

use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use mbrman::MBR;
use std::{
    fs::File,
    io::{Cursor, Read, Seek, SeekFrom, Write},
    path::Path,
};

/// Bytes that the boot loader reads at once.
const CLUSTER: u32 = 16 << 10;
/// Bytes of a sector in the file system.
const SECTOR: u16 = 4 << 10;
/// Bytes of a sector on the disk.
const DISK_SECTOR: u32 = 512;
/// The most bytes that a volume can have for the boot loader.
pub const LIMIT: u64 = u16::MAX as u64 * SECTOR as u64;
/// Number of the partition that has the boot loader's files.
const FILES: usize = 2;

/// Writes the files of a BIOS image anew, in clusters of the size in which they are read.
pub fn enlarge(image: &Path) -> Result<()> {
    enlarge_in(image).with_context(|| format!("cannot lay out the file system of {}", image.display()))
}

fn enlarge_in(image: &Path) -> Result<()> {
    let mut disk = File::options().read(true).write(true).open(image)?;
    let first = MBR::read_from(&mut disk, DISK_SECTOR)?[FILES].starting_lba;
    let start = SeekFrom::Start(u64::from(first) * u64::from(DISK_SECTOR));
    disk.seek(start)?;
    let mut volume = Vec::new();
    disk.read_to_end(&mut volume)?;
    let volume = with_clusters(volume)?;
    disk.seek(start)?;
    Ok(disk.write_all(&volume)?)
}

/// A volume of the same size and with the same files.
fn with_clusters(volume: Vec<u8>) -> Result<Vec<u8>> {
    let mut enlarged = vec![0; volume.len()];
    let old = FileSystem::new(Cursor::new(volume), FsOptions::new())?;
    let options =
        FormatVolumeOptions::new().bytes_per_sector(SECTOR).bytes_per_cluster(CLUSTER).volume_label(*b"PAVISE     ");
    fatfs::format_volume(Cursor::new(&mut enlarged[..]), options)?;
    let new = FileSystem::new(Cursor::new(&mut enlarged[..]), FsOptions::new())?;
    for entry in old.root_dir().iter() {
        let entry = entry?;
        let mut contents = Vec::new();
        entry.to_file().read_to_end(&mut contents)?;
        new.root_dir().create_file(&entry.file_name())?.write_all(&contents)?;
    }
    drop(new);
    Ok(enlarged)
}
