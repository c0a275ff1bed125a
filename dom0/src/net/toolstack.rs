//! What the network devices of a domain are in XenStore.

use super::bridge::Rate;
use crate::toolstack::NewDevice;
use alloc::format;
use alloc::vec::Vec;
use boot_archive::NetworkConfig;
use guest_kernel::net::Mac;

/// What network devices are called in paths.
pub const KIND: &str = "vif";
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

impl From<&NetworkConfig> for NewVif {
    fn from(config: &NetworkConfig) -> NewVif {
        NewVif { mac: Mac(config.mac), rate: config.rate.map(Rate::new), any_source: config.any_source }
    }
}

/// What the device number `index` of a domain is in XenStore.
pub fn device(index: u32, new: &NewVif) -> NewDevice {
    let (handle, mac) = (format!("{index}"), format!("{}", new.mac));
    let mut back = Vec::from([
        ("handle", handle.clone()),
        ("mac", mac.clone()),
        ("any-source", format!("{}", u8::from(new.any_source))),
    ]);
    if let Some(rate) = new.rate {
        // Twenty times a second, as Xen's toolstack divides it.
        back.push(("rate", format!("{},50000", rate.bytes_per_second / 20)));
    }
    NewDevice { kind: KIND, number: index, back, front: [("handle", handle), ("mac", mac)].into() }
}
