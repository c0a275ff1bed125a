//! What a toolstack writes for a device of a domain, whatever its kind and whoever serves it, and takes away again.
//!
//! Each end's directory belongs to its domain, and the other end may read it. Everything that was in it before goes first:
//! of what a domain may have left there, nothing is to be taken for the new device's.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::store::wire::{Permission, Rights};
use guest_kernel::store::{Bus, Tx};
use pv_abi::errno::Errno;
use pv_abi::io::xenbus::XENBUS_STATE_INITIALISING;

/// Nodes with their values.
pub type Values = Vec<(&'static str, String)>;

/// A device that a domain is to have.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// `vbd` or `vif`.
    pub kind: &'static str,
    /// Its number in the domain.
    pub number: u32,
    /// What its back end finds, beside what it does for all devices.
    pub back: Values,
    /// What its frontend finds, beside what it does for all devices.
    pub front: Values,
}

impl NewDevice {
    /// Its directory in the domain that serves it.
    fn backend(&self, domain: u16, server: u16) -> String {
        format!("/local/domain/{server}/backend/{}/{domain}/{}", self.kind, self.number)
    }

    /// Its directory in the domain that has it.
    fn frontend(&self, domain: u16) -> String {
        format!("/local/domain/{domain}/device/{}/{}", self.kind, self.number)
    }

    /// Writes its nodes: `domain` has it, and `server` serves it. Either may look for them from then on.
    ///
    /// # Errors
    /// The store's.
    pub fn add(&self, bus: &mut impl Bus, domain: u16, server: u16) -> Result<(), Errno> {
        let (back, front) = (self.backend(domain, server), self.frontend(domain));
        let state = || ("state", format!("{XENBUS_STATE_INITIALISING}"));
        let id = |domain| format!("{domain}");
        let ends = [("frontend", front.clone()), ("frontend-id", id(domain)), ("online", "1".into())];
        let back_nodes = ends.into_iter().chain(self.back.iter().cloned()).chain([state()]);
        let ends = [("backend", back.clone()), ("backend-id", id(server))];
        let front_nodes = ends.into_iter().chain(self.front.iter().cloned()).chain([state()]);
        let (back_nodes, front_nodes): (Values, Values) = (back_nodes.collect(), front_nodes.collect());
        bus.transaction(|bus, tx| {
            directory(bus, tx, &back, [server, domain], &back_nodes)?;
            directory(bus, tx, &front, [domain, server], &front_nodes)
        })
    }

    /// Removes its nodes, of which the store may have removed some already.
    ///
    /// # Errors
    /// The store's.
    pub fn remove(&self, bus: &mut impl Bus, domain: u16, server: u16) -> Result<(), Errno> {
        [self.backend(domain, server), self.frontend(domain)].iter().try_for_each(|path| remove(bus, path))
    }
}

/// Makes a directory anew, for its owner, and for another domain to read.
fn directory(
    bus: &mut impl Bus,
    tx: Tx,
    path: &str,
    [owner, reader]: [u16; 2],
    nodes: &[(&str, String)],
) -> Result<(), Errno> {
    bus.mkdir(tx, path)?;
    bus.remove(tx, path)?;
    bus.mkdir(tx, path)?;
    let rights = [Permission::new(owner, Rights::NONE), Permission::new(reader, Rights::READ)];
    bus.set_permissions(tx, path, &rights)?;
    // What is made in it belongs to whom it belongs to.
    nodes.iter().try_for_each(|(name, value)| bus.write(tx, &format!("{path}/{name}"), value.as_bytes()))
}

/// Removes the nodes of all devices of a kind that a domain has and this one serves, of which the store may have removed
/// some already.
///
/// # Errors
/// The store's.
pub fn remove_all(bus: &mut impl Bus, kind: &str, domain: u16) -> Result<(), Errno> {
    remove(bus, &format!("/local/domain/0/backend/{kind}/{domain}"))?;
    remove(bus, &format!("/local/domain/{domain}/device/{kind}"))
}

/// Removes a node that may be gone.
fn remove(bus: &mut impl Bus, path: &str) -> Result<(), Errno> {
    match bus.remove(Tx::NONE, path) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Connection, Limits, shared};
    use pv_abi::io::xenstore::{XS_READ, XS_RM, XS_WRITE};

    #[test]
    fn each_end_has_its_directory_and_reads_the_others() {
        let store = shared(Limits::default());
        let mut control = Connection::new(&store);
        let device = NewDevice {
            kind: "vbd",
            number: 7,
            back: [("mode", "w".into())].into(),
            front: [("x", "y".into())].into(),
        };
        device.add(&mut control, 3, 2).unwrap();
        let clients = [2, 3, 4].map(|domain| store.borrow_mut().connect(domain));
        let ask = |client: usize, kind, text: &[u8]| store.borrow_mut().request(clients[client], kind, 0, text);
        let [back, front] = ["/local/domain/2/backend/vbd/3/7", "/local/domain/3/device/vbd/7"];
        for client in 0..2 {
            let read = |path: &str| ask(client, XS_READ, format!("{path}\0").as_bytes());
            assert_eq!(read(&format!("{back}/mode")).unwrap(), b"w");
            assert_eq!(read(&format!("{back}/frontend")).unwrap(), front.as_bytes());
            assert_eq!(read(&format!("{front}/backend")).unwrap(), back.as_bytes());
            assert_eq!(read(&format!("{front}/backend-id")).unwrap(), b"2");
            assert_eq!(read(&format!("{front}/x")).unwrap(), b"y");
        }
        let write = |client, path: &str| ask(client, XS_WRITE, format!("{path}/state\x004").as_bytes());
        assert_eq!([write(0, back), write(1, front)], [Ok(b"OK\0".to_vec()), Ok(b"OK\0".to_vec())]);
        let refused =
            [write(1, back), write(0, front), write(2, back), ask(2, XS_READ, b"/local/domain/3/device/vbd/7\0")];
        assert!(refused.iter().all(|answer| *answer == Err(Errno::EACCES)), "{refused:?}");
        // Who serves can't put up what others are to take for devices, nor take those away that aren't its own.
        let above = b"/local/domain/2/backend/vbd/9\0";
        assert_eq!(ask(0, XS_WRITE, above), Err(Errno::EACCES));
        assert_eq!(ask(0, XS_RM, above), Err(Errno::EACCES));

        control.write(Tx::NONE, &format!("{front}/ring-ref"), b"8").unwrap();
        device.add(&mut control, 3, 2).unwrap();
        assert_eq!(control.read(Tx::NONE, &format!("{front}/ring-ref")), Err(Errno::ENOENT), "the old device's");
        assert_eq!(control.read(Tx::NONE, &format!("{back}/state")).unwrap(), b"1");
        device.remove(&mut control, 3, 2).unwrap();
        device.remove(&mut control, 3, 2).unwrap();
        assert_eq!(control.read(Tx::NONE, back), Err(Errno::ENOENT));
        assert_eq!(control.read(Tx::NONE, front), Err(Errno::ENOENT));
    }
}
