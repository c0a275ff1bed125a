//! The disks and partitions that domains can have, by name.

use super::disk::Geometry;
use super::partitions::Partition;
use super::request::Volume;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use boot_archive::{DiskConfig, DiskSource};

/// All of them.
#[derive(Debug, Default)]
pub struct Volumes(Vec<Named>);

#[derive(Debug)]
struct Named {
    /// As the node `params` has it.
    name: String,
    disk: usize,
    volume: Volume,
    /// Something else has this name too, so that nobody knows which of them is meant.
    is_ambiguous: bool,
}

/// Whether a disk is given to a domain whole, to write to; `disks` are those of all domains. Then its partition table is that
/// domain's: a label in it could be that of another domain's partition.
pub fn is_given_away<'a>(name: &str, mut disks: impl Iterator<Item = &'a DiskConfig>) -> bool {
    disks.any(|disk| !disk.read_only && matches!(&disk.source, DiskSource::Disk(whole) if whole == name))
}

impl Volumes {
    /// Adds the disk with a number, and its partitions. Of these and those before, a name that occurs twice is nobody's; such
    /// names are returned.
    pub fn add(&mut self, disk: usize, name: &str, geometry: Geometry, partitions: &[Partition]) -> Vec<String> {
        let mut ambiguous = Vec::new();
        let whole = (format!("disk:{name}"), Volume { first: 0, geometry });
        let parts = partitions.iter().map(|part| {
            let volume = Volume { first: part.first, geometry: Geometry { sectors: part.sectors, ..geometry } };
            (format!("partition:{}", part.label), volume)
        });
        for (name, volume) in core::iter::once(whole).chain(parts) {
            match self.0.iter_mut().find(|named| named.name == name) {
                Some(named) => {
                    named.is_ambiguous = true;
                    ambiguous.push(name);
                }
                None => self.0.push(Named { name, disk, volume, is_ambiguous: false }),
            }
        }
        ambiguous
    }

    /// The volume that a node `params` names, and its disk.
    pub fn find(&self, params: &str, read_only: bool) -> Option<(usize, Volume)> {
        let named = self.0.iter().find(|named| named.name == params && !named.is_ambiguous)?;
        let mut volume = named.volume;
        volume.geometry.read_only |= read_only;
        Some((named.disk, volume))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_found_by_name() {
        let geometry = Geometry {
            sectors: 1000,
            sector_bytes: 512,
            physical_sector_bytes: 512,
            read_only: false,
            flush: true,
            discard: None,
            max_chunks: 16,
        };
        let part = |label: &str, first, sectors| Partition { label: label.into(), first, sectors };
        let mut volumes = Volumes::default();
        assert_eq!(volumes.add(0, "a", geometry, &[part("root", 34, 100)]), [""; 0]);
        assert_eq!(volumes.add(1, "b", geometry, &[part("data", 200, 300)]), [""; 0]);
        let found = |volumes: &Volumes, params, read_only| {
            let (disk, Volume { first, geometry }) = volumes.find(params, read_only)?;
            Some((disk, first, geometry.sectors, geometry.read_only))
        };
        assert_eq!(found(&volumes, "disk:b", false), Some((1, 0, 1000, false)));
        assert_eq!(found(&volumes, "partition:root", false), Some((0, 34, 100, false)));
        assert_eq!(found(&volumes, "partition:data", true), Some((1, 200, 300, true)));
        assert_eq!(found(&volumes, "partition:a", false), None);
        // Who could tell which is meant?
        let third = [part("root", 50, 60), part("twice", 100, 1), part("twice", 200, 1), part("once", 300, 1)];
        assert_eq!(volumes.add(2, "b", geometry, &third), ["disk:b", "partition:root", "partition:twice"]);
        for name in ["disk:b", "partition:root", "partition:twice"] {
            assert_eq!(found(&volumes, name, false), None);
        }
        assert_eq!(found(&volumes, "partition:once", false), Some((2, 300, 1, false)));
        assert_eq!(found(&volumes, "partition:data", false), Some((1, 200, 300, false)));
    }

    #[test]
    fn who_may_write_to_a_whole_disk_has_its_partition_table() {
        let disk = |source, read_only| DiskConfig { name: "xvda".into(), source, read_only };
        let whole = |name: &str| DiskSource::Disk(name.into());
        let disks = [
            disk(whole("system"), true),
            disk(DiskSource::Partition("scratch".into()), false),
            disk(whole("data"), true),
            disk(whole("data"), false),
        ];
        let given_away = ["system", "boot", "data", "scratch"].map(|name| is_given_away(name, disks.iter()));
        assert_eq!(given_away, [false, false, true, false]);
    }
}
