//! What a toolstack writes for a network device of a new domain, and removes with the domain.

use super::bridge::Rate;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::net::Mac;
use guest_kernel::store::wire::{Permission, Rights};
use guest_kernel::store::{Bus, Tx};
use pv_abi::errno::Errno;
use pv_abi::io::xenbus::XENBUS_STATE_INITIALISING;

/// The parent of the directories of all devices' back ends here. A device's is `DOMAIN/INDEX` below.
pub const BACKENDS: &str = "/local/domain/0/backend/vif";

/// A network device that a domain is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewVif {
    /// Its address.
    pub mac: Mac,
    /// How much it may send.
    pub rate: Option<Rate>,
    /// It may send from addresses other than its own.
    pub any_source: bool,
}

/// Writes the nodes of the device number `index` of a domain, whose frontend may look for them from then on.
///
/// # Errors
/// The store's.
pub fn add(bus: &mut impl Bus, domain: u16, index: u32, new: &NewVif) -> Result<(), Errno> {
    let (back, front) = (format!("{BACKENDS}/{domain}/{index}"), frontend(domain, index));
    let mut back_nodes = Vec::from([
        ("frontend", front.clone()),
        ("frontend-id", format!("{domain}")),
        ("online", "1".into()),
        ("handle", format!("{index}")),
        ("mac", format!("{}", new.mac)),
        ("any-source", format!("{}", u8::from(new.any_source))),
        ("state", format!("{XENBUS_STATE_INITIALISING}")),
    ]);
    if let Some(rate) = new.rate {
        // Twenty times a second, as Xen's toolstack divides it.
        back_nodes.push(("rate", format!("{},50000", rate.bytes_per_second / 20)));
    }
    let front_nodes = [
        ("backend", back.clone()),
        ("backend-id", "0".into()),
        ("handle", format!("{index}")),
        ("mac", format!("{}", new.mac)),
        ("state", format!("{XENBUS_STATE_INITIALISING}")),
    ];
    // Each side owns its directory and may read the other's.
    let back_rights = [Permission::new(0, Rights::NONE), Permission::new(domain, Rights::READ)];
    let front_rights = [Permission::new(domain, Rights::NONE), Permission::new(0, Rights::READ)];
    bus.transaction(|bus, tx| {
        directory(bus, tx, &back, &back_rights, &back_nodes)?;
        directory(bus, tx, &front, &front_rights, &front_nodes)
    })
}

/// Removes the nodes of all network devices of a domain, of which the store may have removed some already.
///
/// # Errors
/// The store's.
pub fn remove_all(bus: &mut impl Bus, domain: u16) -> Result<(), Errno> {
    for path in [format!("{BACKENDS}/{domain}"), format!("/local/domain/{domain}/device/vif")] {
        match bus.remove(Tx::NONE, &path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The frontend's directory.
fn frontend(domain: u16, index: u32) -> String {
    format!("/local/domain/{domain}/device/vif/{index}")
}

/// Makes a directory anew. What is made in it belongs to whom it belongs to.
fn directory(
    bus: &mut impl Bus,
    tx: Tx,
    path: &str,
    rights: &[Permission],
    nodes: &[(&str, String)],
) -> Result<(), Errno> {
    bus.mkdir(tx, path)?;
    bus.set_permissions(tx, path, rights)?;
    nodes.iter().try_for_each(|(name, value)| {
        let node = format!("{path}/{name}");
        bus.write(tx, &node, value.as_bytes())?;
        bus.set_permissions(tx, &node, rights)
    })
}
