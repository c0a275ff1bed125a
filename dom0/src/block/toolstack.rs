//! What a toolstack writes for the disks of a new domain, and removes with the domain.

use alloc::format;
use alloc::string::String;
use boot_archive::{DiskConfig, DiskSource};
use guest_kernel::store::wire::{Permission, Rights};
use guest_kernel::store::{Bus, Tx};
use pv_abi::errno::Errno;
use pv_abi::io::xenbus::XENBUS_STATE_INITIALISING;

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
    }
}

/// Writes the nodes of a domain's disk, whose frontend may look for them from then on.
///
/// # Errors
/// The store's; `EINVAL` for a name that no disk has.
pub fn add(bus: &mut impl Bus, domain: u16, disk: &DiskConfig) -> Result<(), Errno> {
    let device = device_number(&disk.name).ok_or(Errno::EINVAL)?;
    let (back, front) =
        (format!("{BACKENDS}/{domain}/{device}"), format!("/local/domain/{domain}/device/vbd/{device}"));
    let state = format!("{XENBUS_STATE_INITIALISING}");
    let back_nodes = [
        ("frontend", front.clone()),
        ("frontend-id", format!("{domain}")),
        ("online", "1".into()),
        ("dev", disk.name.clone()),
        ("device-type", "disk".into()),
        ("type", "phy".into()),
        ("mode", if disk.read_only { "r" } else { "w" }.into()),
        ("params", params(&disk.source)),
        ("removable", "0".into()),
        ("state", state.clone()),
    ];
    let front_nodes = [
        ("backend", back.clone()),
        ("backend-id", "0".into()),
        ("virtual-device", format!("{device}")),
        ("device-type", "disk".into()),
        ("state", state),
    ];
    // Each side owns its directory and may read the other's.
    let back_rights = [Permission::new(0, Rights::NONE), Permission::new(domain, Rights::READ)];
    let front_rights = [Permission::new(domain, Rights::NONE), Permission::new(0, Rights::READ)];
    bus.transaction(|bus, tx| {
        for (path, rights, nodes) in [(&back, &back_rights, &back_nodes[..]), (&front, &front_rights, &front_nodes[..])]
        {
            bus.mkdir(tx, path)?;
            bus.set_permissions(tx, path, rights)?;
            for (name, value) in nodes {
                bus.write(tx, &format!("{path}/{name}"), value.as_bytes())?;
            }
        }
        Ok(())
    })
}

/// Removes the nodes of all disks of a domain, of which the store may have removed some already.
///
/// # Errors
/// The store's.
pub fn remove_all(bus: &mut impl Bus, domain: u16) -> Result<(), Errno> {
    for path in [format!("{BACKENDS}/{domain}"), format!("/local/domain/{domain}/device/vbd")] {
        match bus.remove(Tx::NONE, &path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Connection, Limits, Store};
    use alloc::rc::Rc;
    use core::cell::RefCell;
    use guest_kernel::xenbus::Device;

    #[test]
    fn numbers_are_those_of_xen() {
        let numbers = ["xvda", "xvdb", "xvdp", "xvdq", "sda", "xvda1"].map(device_number);
        assert_eq!(numbers, [Some(51712), Some(51728), Some(51952), None, None, None]);
    }

    #[test]
    fn a_domain_finds_its_disk_and_nothing_of_it_stays() {
        let store = Rc::new(RefCell::new(Store::new(Limits::default())));
        let mut control = Connection::new(&store);
        let disk = DiskConfig { name: "xvdb".into(), source: DiskSource::Partition("two".into()), read_only: true };
        add(&mut control, 7, &disk).unwrap();
        let device = Device::frontend(&mut control, "/local/domain/7/device/vbd/51728").unwrap();
        assert_eq!(device.theirs::<String>(&mut control, Tx::NONE, "params").unwrap(), "partition:two");
        assert_eq!(device.theirs::<String>(&mut control, Tx::NONE, "mode").unwrap(), "r");
        assert_eq!(device.theirs(&mut control, Tx::NONE, "frontend"), Ok(String::from(device.directory())));
        remove_all(&mut control, 7).unwrap();
        remove_all(&mut control, 7).unwrap();
        assert_eq!(device.theirs::<String>(&mut control, Tx::NONE, "frontend"), Err(Errno::ENOENT));
    }
}
