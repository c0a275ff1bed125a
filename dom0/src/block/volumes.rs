//! The disks and partitions that domains can have, by name.

use super::disk::Geometry;
use super::partitions::Partition;
use super::request::Volume;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// All of them.
#[derive(Debug, Default)]
pub struct Volumes(Vec<Named>);

#[derive(Debug)]
struct Named {
    /// As the node `params` has it.
    name: String,
    disk: usize,
    volume: Volume,
}

impl Volumes {
    /// Adds the disk with a number, and its partitions. Names that are there already stay what they are.
    pub fn add(&mut self, disk: usize, name: &str, geometry: Geometry, partitions: &[Partition]) {
        let whole = (format!("disk:{name}"), Volume { first: 0, geometry });
        let parts = partitions.iter().map(|part| {
            let volume = Volume { first: part.first, geometry: Geometry { sectors: part.sectors, ..geometry } };
            (format!("partition:{}", part.label), volume)
        });
        for (name, volume) in core::iter::once(whole).chain(parts) {
            if self.find(&name, true).is_none() {
                self.0.push(Named { name, disk, volume });
            }
        }
    }

    /// The volume that a node `params` names, and its disk.
    pub fn find(&self, params: &str, read_only: bool) -> Option<(usize, Volume)> {
        let named = self.0.iter().find(|named| named.name == params)?;
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
        volumes.add(0, "a", geometry, &[part("root", 34, 100)]);
        volumes.add(1, "b", geometry, &[part("root", 50, 60), part("data", 200, 300)]);
        let found = |params, read_only| {
            let (disk, Volume { first, geometry }) = volumes.find(params, read_only)?;
            Some((disk, first, geometry.sectors, geometry.read_only))
        };
        assert_eq!(found("disk:b", false), Some((1, 0, 1000, false)));
        assert_eq!(found("partition:root", false), Some((0, 34, 100, false)));
        assert_eq!(found("partition:data", true), Some((1, 200, 300, true)));
        assert_eq!(found("partition:a", false), None);
    }
}
