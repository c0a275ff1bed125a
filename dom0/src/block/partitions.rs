//! The partitions of a disk, from its GUID partition table. UEFI 2.10, section 5.3.

use super::disk::SECTOR_BYTES;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use gpt_disk_io::gpt_disk_types::BlockSize;
use gpt_disk_io::{BlockIoAdapter, Disk};

/// How much of a disk is needed to read its table: the header, and as many entries as everybody makes, for sectors of up to
/// 4 KiB.
pub const HEAD_BYTES: usize = 32 << 10;

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its label.
    pub label: String,
    /// Its first sector of 512 bytes.
    pub first: u64,
    /// Its size in such sectors.
    pub sectors: u64,
}

/// What is wrong with a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The header or the entries don't have the checksum that they say.
    Checksum,
    /// The entries are elsewhere than everybody puts them, or too many.
    Entries,
    /// A partition is not on the disk, or has a sector in common with another.
    Range,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Checksum => "its partition table is damaged",
            Error::Entries => "its partition table is of an unusual size",
            Error::Range => "a partition is beyond its end, or overlaps another",
        })
    }
}

/// Reads a table from the first [`HEAD_BYTES`] of a disk, or all of it if it is smaller. A disk without a table has no
/// partitions.
///
/// # Errors
/// What is wrong with the table. Then nobody should have any of its partitions: two could be the same.
pub fn read(head: &[u8], sector_bytes: u32, sectors: u64) -> Result<Vec<Partition>, Error> {
    let block_size = BlockSize::new(sector_bytes).ok_or(Error::Entries)?;
    let whole = head.len() - head.len() % sector_bytes as usize;
    let mut disk = Disk::new(BlockIoAdapter::new(&head[..whole], block_size)).map_err(|_| Error::Entries)?;
    let mut block = vec![0; sector_bytes as usize];
    let Ok(header) = disk.read_primary_gpt_header(&mut block) else { return Ok(Vec::new()) };
    if !header.is_signature_valid() {
        return Ok(Vec::new());
    }
    if header.header_crc32 != header.calculate_header_crc32() {
        return Err(Error::Checksum);
    }
    let layout = header.get_partition_entry_array_layout().map_err(|_| Error::Entries)?;
    let mut storage = vec![0; HEAD_BYTES];
    let entries = disk.read_gpt_partition_entry_array(layout, &mut storage).map_err(|_| Error::Entries)?;
    if entries.calculate_crc32() != header.partition_entry_array_crc32 {
        return Err(Error::Checksum);
    }
    let mut partitions = Vec::new();
    let unit = u64::from(sector_bytes / SECTOR_BYTES);
    for entry in (0..layout.num_entries).filter_map(|index| entries.get_partition_entry(index)) {
        if entry.is_used() {
            let range = entry.lba_range().ok_or(Error::Range)?;
            let end = range.end().to_u64().checked_add(1).and_then(|end| end.checked_mul(unit)).ok_or(Error::Range)?;
            let first = range.start().to_u64() * unit;
            let label = entry.name.chars().collect();
            partitions.push(Partition { label, first, sectors: end - first });
        }
    }
    check(&partitions, sectors)?;
    Ok(partitions)
}

fn check(partitions: &[Partition], sectors: u64) -> Result<(), Error> {
    let mut ranges: Vec<(u64, u64)> = partitions.iter().map(|part| (part.first, part.first + part.sectors)).collect();
    ranges.sort_unstable();
    let overlap = ranges.windows(2).any(|pair| pair[0].1 > pair[1].0);
    let beyond = ranges.last().is_some_and(|last| last.1 > sectors);
    if overlap || beyond { Err(Error::Range) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt_disk_io::gpt_disk_types::*;
    use proptest::prelude::*;

    const SECTORS: u64 = 4096;

    /// The head of a disk with these partitions: label, first and last sector.
    fn head(partitions: &[(&str, u64, u64)]) -> Vec<u8> {
        let mut storage = vec![0; 128 * 128];
        let entry_size = GptPartitionEntrySize::new(128).ok().unwrap();
        let layout = GptPartitionEntryArrayLayout { start_lba: Lba(2), entry_size, num_entries: 128 };
        let mut entries = GptPartitionEntryArray::new(layout, BlockSize::BS_512, &mut storage).unwrap();
        for (index, (label, first, last)) in (0..).zip(partitions) {
            let entry = entries.get_partition_entry_mut(index).unwrap();
            entry.partition_type_guid = GptPartitionType::BASIC_DATA;
            (entry.starting_lba, entry.ending_lba) = (LbaLe::from_u64(*first), LbaLe::from_u64(*last));
            entry.name = label.parse().unwrap();
        }
        let mut header = GptHeader {
            my_lba: LbaLe::from_u64(1),
            partition_entry_lba: LbaLe::from_u64(2),
            number_of_partition_entries: U32Le::from_u32(128),
            partition_entry_array_crc32: entries.calculate_crc32(),
            ..GptHeader::default()
        };
        header.update_header_crc32();
        let mut head = vec![0; HEAD_BYTES];
        let mut disk = Disk::new(BlockIoAdapter::new(head.as_mut_slice(), BlockSize::BS_512)).unwrap();
        disk.write_primary_gpt_header(&header, &mut [0; 512]).unwrap();
        disk.write_gpt_partition_entry_array(&entries).unwrap();
        drop(disk);
        head
    }

    #[test]
    fn partitions_are_found() {
        let found = read(&head(&[("root", 100, 199), ("data", 200, 4095)]), 512, SECTORS).unwrap();
        let expected = [("root", 100, 100), ("data", 200, 3896)];
        assert_eq!(found, expected.map(|(label, first, sectors)| Partition { label: label.into(), first, sectors }));
        assert_eq!(read(&vec![0; HEAD_BYTES], 512, SECTORS), Ok(Vec::new()));
        assert_eq!(read(&[], 512, 0), Ok(Vec::new()));
    }

    #[test]
    fn what_could_give_somebody_anothers_sectors_is_refused() {
        for partitions in
            [[("a", 100, 200), ("b", 200, 300)], [("a", 100, 200), ("b", 4000, 4096)], [("a", 9, 8), ("b", 20, 30)]]
        {
            assert_eq!(read(&head(&partitions), 512, SECTORS), Err(Error::Range));
        }
        let mut damaged = head(&[("a", 100, 200)]);
        damaged[1024 + 40] ^= 1;
        assert_eq!(read(&damaged, 512, SECTORS), Err(Error::Checksum));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            changes in proptest::collection::vec((0usize..2048, any::<u8>()), 0..20), mend: bool, sector in 0u32..3,
        ) {
            let mut head = head(&[("a", 100, 200), ("b", 300, 400)]);
            changes.iter().for_each(|(at, value)| head[*at] = *value);
            if mend {
                let mut disk = Disk::new(BlockIoAdapter::new(head.as_mut_slice(), BlockSize::BS_512)).unwrap();
                let mut header = disk.read_primary_gpt_header(&mut [0; 512]).unwrap();
                header.update_header_crc32();
                disk.write_primary_gpt_header(&header, &mut [0; 512]).unwrap();
            }
            let _ = read(&head, 512 << sector, SECTORS);
        }
    }
}
