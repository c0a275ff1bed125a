//! Disk images: made when they are first used, and QEMU's options for them.

use crate::machine::{Content, Disk, Interface, Memory, Partition};
use crate::{debian, paths, step};
use anyhow::{Context, Result};
use gpt_disk_io::gpt_disk_types::{
    BlockSize, GptHeader, GptPartitionAttributes, GptPartitionEntry, GptPartitionEntryArray,
    GptPartitionEntryArrayLayout, GptPartitionEntrySize, GptPartitionType, Guid, Lba, LbaLe, U32Le, guid,
};
use gpt_disk_io::{BlockIoAdapter, Disk as Blocks};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

const SECTOR: usize = 512;
/// Entries of a partition table, as everybody makes them.
const ENTRIES: u32 = 128;
/// Sectors that they take.
const ENTRY_SECTORS: usize = 32;

/// Makes the images that are not there yet, in `folder`, and returns QEMU's arguments for the disks. What is on an image
/// stays there for the next time.
///
/// # Errors
/// When an image can't be written.
pub fn attach(disks: &[Disk], folder: &Path) -> Result<Vec<String>> {
    let mut args = Vec::new();
    for disk in disks {
        let image = match &disk.content {
            Content::Image(path) => path.clone(),
            Content::Made { size, partitions } => {
                made(&disk.name, *size, folder, |path, bytes| make(path, bytes, partitions))?
            }
            Content::Debian { release, size } => {
                made(&disk.name, *size, folder, |path, bytes| copy(&debian::root(release)?, path, bytes))?
            }
        };
        let Interface::Virtio = disk.interface;
        let name = &disk.name;
        args.push("-drive".to_owned());
        args.push(format!("if=none,id=disk-{name},format=raw,discard=unmap,file={}", image.display()));
        args.push("-device".to_owned());
        args.push(format!("virtio-blk-pci,drive=disk-{name},serial={name}"));
    }
    Ok(args)
}

/// The image of a disk, which `make` makes where it isn't there yet: whole or not at all.
fn made(name: &str, size: Memory, folder: &Path, make: impl FnOnce(&Path, u64) -> Result<()>) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.img"));
    let bytes = size.as_mib() << 20;
    // One of another size is of another machine file.
    if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let part = path.with_extension("part");
    make(&part, bytes)
        .and_then(|()| Ok(fs::rename(&part, &path)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Copies a smaller image, or one of the same size; what has nothing but zeros takes no room.
fn copy(from: &Path, to: &Path, bytes: u64) -> Result<()> {
    let mut command = Command::new("cp");
    step::run(&format!("copying {}", paths::shown(from)), command.args(["--sparse=always", "--"]).args([from, to]))?;
    Ok(File::options().write(true).open(to)?.set_len(bytes)?)
}

/// Makes an image of zeros, with a GUID partition table if it has partitions. The first starts at 1 MiB, each of the others
/// behind the one before it.
///
/// # Errors
/// When it can't be written.
pub fn make(path: &Path, bytes: u64, partitions: &[Partition]) -> Result<()> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(bytes)?;
    if partitions.is_empty() { Ok(()) } else { write_table(&file, bytes / SECTOR as u64, partitions) }
}

fn write_table(file: &File, sectors: u64, partitions: &[Partition]) -> Result<()> {
    let mut disk = Blocks::new(BlockIoAdapter::new(file, BlockSize::BS_512))?;
    let mut storage = vec![0; ENTRY_SECTORS * SECTOR];
    let entry_size = GptPartitionEntrySize::new(128).ok().context("the size of an entry")?;
    let layout = GptPartitionEntryArrayLayout { start_lba: Lba(2), entry_size, num_entries: ENTRIES };
    let mut entries = GptPartitionEntryArray::new(layout, BlockSize::BS_512, &mut storage)?;
    let mut first = 1 << 20 >> 9;
    for (index, partition) in (0..).zip(partitions) {
        let sectors = partition.size.as_mib() << 20 >> 9;
        let entry = entries.get_partition_entry_mut(index).context("too many partitions")?;
        *entry = GptPartitionEntry {
            partition_type_guid: GptPartitionType(LINUX_DATA),
            unique_partition_guid: same_guid(index + 1),
            starting_lba: LbaLe::from_u64(first),
            ending_lba: LbaLe::from_u64(first + sectors - 1),
            attributes: GptPartitionAttributes::default(),
            name: partition.label.parse().ok().context("a partition's label is too long")?,
        };
        first += sectors;
    }
    // The tables at the end are a copy, entries first.
    let last = sectors - 1;
    let copy = last - ENTRY_SECTORS as u64;
    let header = |own: u64, other: u64, table: u64| {
        let mut header = GptHeader {
            my_lba: LbaLe::from_u64(own),
            alternate_lba: LbaLe::from_u64(other),
            first_usable_lba: LbaLe::from_u64(2 + ENTRY_SECTORS as u64),
            last_usable_lba: LbaLe::from_u64(copy - 1),
            disk_guid: same_guid(0),
            partition_entry_lba: LbaLe::from_u64(table),
            number_of_partition_entries: U32Le::from_u32(ENTRIES),
            partition_entry_array_crc32: entries.calculate_crc32(),
            ..GptHeader::default()
        };
        header.update_header_crc32();
        header
    };
    let headers = (header(1, last, 2), header(last, 1, copy));
    let mut block = [0; SECTOR];
    disk.write_protective_mbr(&mut block)?;
    disk.write_primary_gpt_header(&headers.0, &mut block)?;
    disk.write_gpt_partition_entry_array(&entries)?;
    entries.set_start_lba(Lba(copy));
    disk.write_gpt_partition_entry_array(&entries)?;
    disk.write_secondary_gpt_header(&headers.1, &mut block)?;
    Ok(disk.flush()?)
}

/// The type of partitions with data.
const LINUX_DATA: Guid = guid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

/// The same each time, so that images are.
fn same_guid(index: u32) -> Guid {
    let mut bytes = *b"pavise\0disk\0\0\0\0\0";
    bytes[12..].copy_from_slice(&index.to_be_bytes());
    Guid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt_disk_io::gpt_disk_types::GptHeader;

    fn image(partitions: &[(&str, u64)]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let part = |(label, mib): &(&str, u64)| Partition { label: (*label).to_owned(), size: Memory::mib(*mib) };
        let partitions: Vec<_> = partitions.iter().map(part).collect();
        make(&path, 8 << 20, &partitions).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn a_table_and_its_copy_are_valid_and_say_where_partitions_are() {
        let bytes = image(&[("one", 1), ("two", 3)]);
        let mut disk = Blocks::new(BlockIoAdapter::new(bytes.as_slice(), BlockSize::BS_512)).unwrap();
        let mut block = [0; 512];
        let headers = [disk.read_primary_gpt_header(&mut block), disk.read_secondary_gpt_header(&mut block)];
        for header in headers.map(|header: Result<GptHeader, _>| header.unwrap()) {
            assert!(header.is_signature_valid() && header.header_crc32 == header.calculate_header_crc32());
            let mut storage = vec![0; 16384];
            let layout = header.get_partition_entry_array_layout().unwrap();
            let entries = disk.read_gpt_partition_entry_array(layout, &mut storage).unwrap();
            assert_eq!(entries.calculate_crc32(), header.partition_entry_array_crc32);
            let found = (0..3).map(|index| {
                let entry = entries.get_partition_entry(index).unwrap();
                (entry.name.chars().collect::<String>(), entry.starting_lba.to_u64(), entry.ending_lba.to_u64())
            });
            let expected = [("one", 2048, 4095), ("two", 4096, 10239), ("", 0, 0)];
            assert_eq!(found.collect::<Vec<_>>(), expected.map(|(label, first, last)| (label.to_owned(), first, last)));
        }
    }

    #[test]
    fn a_disk_without_partitions_is_empty() {
        assert!(image(&[]).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_copy_grows_and_takes_no_room_for_zeros() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut bytes = vec![0; 2 << 20];
        bytes[1 << 20] = 7;
        fs::write(path("from"), &bytes).unwrap();
        copy(&path("from"), &path("to"), 3 << 20).unwrap();
        bytes.resize(3 << 20, 0);
        assert!(fs::read(path("to")).unwrap() == bytes);
        assert!(fs::metadata(path("to")).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn what_is_on_a_disk_stays_unless_its_size_changes() {
        let folder = tempfile::tempdir().unwrap();
        let disk = |mib| Disk {
            name: "data".to_owned(),
            content: Content::Made { size: Memory::mib(mib), partitions: Vec::new() },
            interface: Interface::Virtio,
        };
        let args = attach(&[disk(2)], folder.path()).unwrap().join(" ");
        assert!(args.contains("serial=data") && args.contains("data.img"), "{args}");
        let path = folder.path().join("data.img");
        fs::write(&path, vec![7; 2 << 20]).unwrap();
        attach(&[disk(2)], folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap()[0], 7);
        attach(&[disk(3)], folder.path()).unwrap();
        assert_eq!((fs::read(&path).unwrap()[0], fs::metadata(&path).unwrap().len()), (0, 3 << 20));
    }
}
