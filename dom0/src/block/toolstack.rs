//! What the disks of a domain are in XenStore.

use crate::toolstack::NewDevice;
use alloc::format;
use alloc::string::String;
use boot_archive::{DiskConfig, DiskSource};
use pv_abi::errno::Errno;

/// What disks are called in paths.
pub const KIND: &str = "vbd";
/// The parent of the directories of all disks' back ends here. A disk's is `DOMAIN/DEVICE` below.
pub const BACKENDS: &str = "/local/domain/0/backend/vbd";

/// The number of a disk `xvda` to `xvdp`, as Linux and Xen number them: major 202, 16 minors each.
pub fn device_number(name: &str) -> Option<u32> {
    match name.as_bytes() {
        [b'x', b'v', b'd', letter @ b'a'..=b'p'] => Some(202 << 8 | u32::from(letter - b'a') << 4),
        _ => None,
    }
}

/// What the node `params` says of a source.
pub fn params(source: &DiskSource) -> String {
    match source {
        DiskSource::Disk(name) => format!("disk:{name}"),
        DiskSource::Partition(label) => format!("partition:{label}"),
        // Its own business.
        DiskSource::Domain(_) => String::new(),
    }
}

/// What a domain's disk is in XenStore.
///
/// # Errors
/// `EINVAL` for a name that no disk has.
pub fn device(disk: &DiskConfig) -> Result<NewDevice, Errno> {
    let number = device_number(&disk.name).ok_or(Errno::EINVAL)?;
    let back = [
        ("dev", disk.name.clone()),
        ("device-type", "disk".into()),
        ("type", "phy".into()),
        ("mode", if disk.read_only { "r" } else { "w" }.into()),
        ("params", params(&disk.source)),
        ("removable", "0".into()),
    ];
    let front = [("virtual-device", format!("{number}")), ("device-type", "disk".into())];
    Ok(NewDevice { kind: KIND, number, back: back.into(), front: front.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Connection, Limits, shared};
    use crate::toolstack::remove_all;
    use guest_kernel::store::Tx;
    use guest_kernel::xenbus::Device;

    #[test]
    fn numbers_are_those_of_xen() {
        let numbers = ["xvda", "xvdb", "xvdp", "xvdq", "sda", "xvda1"].map(device_number);
        assert_eq!(numbers, [Some(51712), Some(51728), Some(51952), None, None, None]);
    }

    #[test]
    fn a_domain_finds_its_disk_and_nothing_of_it_stays() {
        let store = shared(Limits::default());
        let mut control = Connection::new(&store);
        let disk = DiskConfig { name: "xvdb".into(), source: DiskSource::Partition("two".into()), read_only: true };
        device(&disk).unwrap().add(&mut control, 7, 0).unwrap();
        let found = Device::frontend(&mut control, "/local/domain/7/device/vbd/51728").unwrap();
        assert_eq!(found.theirs::<String>(&mut control, Tx::NONE, "params").unwrap(), "partition:two");
        assert_eq!(found.theirs::<String>(&mut control, Tx::NONE, "mode").unwrap(), "r");
        assert_eq!(found.theirs(&mut control, Tx::NONE, "frontend"), Ok(String::from(found.directory())));
        remove_all(&mut control, KIND, 7).unwrap();
        remove_all(&mut control, KIND, 7).unwrap();
        assert_eq!(found.theirs::<String>(&mut control, Tx::NONE, "frontend"), Err(Errno::ENOENT));
    }
}
