//! The nodes of a new domain: what every guest may expect to find. Those of its devices come from whoever makes the devices.

use super::path::home;
use alloc::format;
use alloc::string::String;
use guest_kernel::store::wire::{Permission, Rights};
use guest_kernel::store::{Bus, Tx};
use pv_abi::errno::Errno;

/// A domain, as its nodes tell of it.
#[derive(Clone, Debug)]
pub struct Home<'a> {
    /// Its number.
    pub domain: u16,
    /// Its name.
    pub name: &'a str,
    /// Its memory, in KiB.
    pub memory: u64,
    /// Its vCPUs.
    pub vcpus: u32,
    /// The machine frame of its XenStore ring, and its port.
    pub store: (u64, u32),
    /// The machine frame of its console ring, and its port.
    pub console: (u64, u32),
}

/// How much memory a domain is to have, in KiB.
const MEMORY_TARGET: &str = "memory/target";
/// Where a domain is asked to shut down. It answers by emptying the node.
const SHUTDOWN: &str = "control/shutdown";

/// Directories in which a guest may write what it likes.
const OWN: [&str; 6] = ["attr", "control", "data", "device", "error", "feature"];

impl Home<'_> {
    /// Writes the nodes, all at once. The domain may read all of them.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self, bus: &mut impl Bus) -> Result<(), Errno> {
        let home = home(self.domain);
        let readable = [Permission::new(0, Rights::NONE), Permission::new(self.domain, Rights::READ)];
        bus.transaction(|bus, tx| {
            // What a domain of the same number may have left.
            bus.mkdir(tx, &home)?;
            bus.remove(tx, &home)?;
            bus.mkdir(tx, &home)?;
            bus.set_permissions(tx, &home, &readable)?;
            for (name, value) in self.values() {
                bus.write(tx, &format!("{home}/{name}"), value.as_bytes())?;
            }
            for cpu in 0..self.vcpus {
                bus.write(tx, &format!("{home}/cpu/{cpu}/availability"), b"online")?;
            }
            for name in OWN {
                bus.mkdir(tx, &format!("{home}/{name}"))?;
                bus.set_permissions(tx, &format!("{home}/{name}"), &[Permission::new(self.domain, Rights::NONE)])?;
            }
            bus.write(tx, &format!("{home}/{SHUTDOWN}"), b"")
        })
    }

    fn values(&self) -> [(&'static str, String); 10] {
        let number = |number: u64| format!("{number}");
        [
            ("name", self.name.into()),
            ("domid", number(self.domain.into())),
            ("memory/static-max", number(self.memory)),
            (MEMORY_TARGET, number(self.memory)),
            ("store/ring-ref", number(self.store.0)),
            ("store/port", number(self.store.1.into())),
            ("console/ring-ref", number(self.console.0)),
            ("console/port", number(self.console.1.into())),
            ("console/type", "pavise".into()),
            ("console/limit", number(1 << 20)),
        ]
    }
}

/// Asks a domain to have so much memory, in KiB: its balloon driver watches this node.
///
/// # Errors
/// The store's.
pub fn set_memory_target(bus: &mut impl Bus, domain: u16, memory: u64) -> Result<(), Errno> {
    bus.write(Tx::NONE, &format!("{}/{MEMORY_TARGET}", home(domain)), format!("{memory}").as_bytes())
}

/// Asks a domain to power itself off.
///
/// # Errors
/// The store's.
pub fn ask_to_stop(bus: &mut impl Bus, domain: u16) -> Result<(), Errno> {
    bus.write(Tx::NONE, &format!("{}/{SHUTDOWN}", home(domain)), b"poweroff")
}

/// Removes all nodes of a domain's home.
///
/// # Errors
/// The store's.
pub fn remove(bus: &mut impl Bus, domain: u16) -> Result<(), Errno> {
    bus.remove(Tx::NONE, &home(domain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Connection, Limits, shared};
    use pv_abi::io::xenstore::{XS_DIRECTORY, XS_READ, XS_RM, XS_WRITE};

    #[test]
    fn a_domain_finds_its_nodes_and_leaves_none() {
        let store = shared(Limits::default());
        let mut control = Connection::new(&store);
        let home = Home { domain: 3, name: "gamma", memory: 4096, vcpus: 2, store: (17, 1), console: (18, 2) };
        home.write(&mut control).unwrap();
        control.write(Tx::NONE, "/local/domain/3/data/old", b"").unwrap();
        home.write(&mut control).unwrap();
        control.introduce(3, home.store.0, home.store.1).unwrap();
        let id = store.borrow_mut().connect(3);
        let ask = |kind, payload: &[u8]| store.borrow_mut().request(id, kind, 0, payload);
        assert_eq!(ask(XS_READ, b"name\0").unwrap(), b"gamma");
        assert_eq!(ask(XS_READ, b"cpu/1/availability\0").unwrap(), b"online");
        assert_eq!(ask(XS_READ, b"store/port\0").unwrap(), b"1");
        set_memory_target(&mut control, 3, 2048).unwrap();
        assert_eq!(ask(XS_READ, b"memory/target\0").unwrap(), b"2048");
        assert_eq!(ask(XS_READ, b"memory/static-max\0").unwrap(), b"4096");
        ask_to_stop(&mut control, 3).unwrap();
        assert_eq!(ask(XS_READ, b"control/shutdown\0").unwrap(), b"poweroff");
        assert_eq!(ask(XS_WRITE, b"control/shutdown\0").unwrap(), b"OK\0");
        assert_eq!(ask(XS_DIRECTORY, b"data\0").unwrap(), b"");
        assert_eq!(ask(XS_WRITE, b"name\0x"), Err(Errno::EACCES));
        assert_eq!(ask(XS_WRITE, b"new\0x"), Err(Errno::EACCES));
        assert_eq!(ask(XS_RM, b"memory\0"), Err(Errno::EACCES));
        assert_eq!(ask(XS_WRITE, b"control/feature-poweroff\x001").unwrap(), b"OK\0");
        assert_eq!(ask(XS_WRITE, b"data/x\0x").unwrap(), b"OK\0");
        control.release(3).unwrap();
        remove(&mut control, 3).unwrap();
        assert_eq!(control.directory(Tx::NONE, "/local/domain").unwrap(), [""; 0]);
    }
}
