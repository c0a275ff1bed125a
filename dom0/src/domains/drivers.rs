//! Devices that other domains than this one serve: *driver domains*. Pure.
//!
//! What a driver domain finds in its directory of back ends, it may change; so who is served by whom is kept here, and not
//! read from there. When a driver domain goes, its clients lose those devices as if they were unplugged. When it comes back
//! they get them anew.

use crate::block;
use crate::net;
use crate::toolstack::NewDevice;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use boot_archive::{DiskSource, DomainConfig};
use guest_kernel::store::Bus;
use log::warn;
use pv_abi::errno::Errno;

/// All of them.
pub struct Drivers<B> {
    bus: B,
    /// The domains that are there, by name.
    here: BTreeMap<String, u16>,
    served: Vec<Served>,
}

/// A device, and who serves it.
struct Served {
    domain: u16,
    device: NewDevice,
    driver: String,
    /// The driver domain, if it is there.
    server: Option<u16>,
}

impl<B: Bus> Drivers<B> {
    /// No devices yet.
    pub fn new(bus: B) -> Drivers<B> {
        Drivers { bus, here: BTreeMap::new(), served: Vec::new() }
    }

    /// A domain was built: it gets its devices, and those get theirs whom it is to serve.
    ///
    /// # Errors
    /// Why it can't have a device. It has none then.
    pub fn arrive(&mut self, domain: u16, config: &DomainConfig) -> Result<(), String> {
        let added = devices(config).try_for_each(|(device, driver)| self.add(domain, device?, driver));
        added.inspect_err(|_| self.leave(domain))?;
        self.here.insert(config.name.clone(), domain);
        for served in self.served.iter_mut().filter(|served| served.driver == config.name) {
            match served.device.add(&mut self.bus, served.domain, domain) {
                Ok(()) => served.server = Some(domain),
                Err(errno) => warn!("d{}: a device of {}: {errno:?}", served.domain, config.name),
            }
        }
        Ok(())
    }

    fn add(&mut self, domain: u16, device: NewDevice, driver: &str) -> Result<(), String> {
        let (kind, number) = (device.kind, device.number);
        let server = *self.here.get(driver).ok_or_else(|| format!("{kind} {number}: {driver} is not there"))?;
        let written = device.add(&mut self.bus, domain, server);
        written.map_err(|errno| format!("{kind} {number}: its nodes can't be written: {errno:?}"))?;
        self.served.push(Served { domain, device, driver: driver.into(), server: Some(server) });
        Ok(())
    }

    /// A domain has ended.
    pub fn leave(&mut self, id: u16) {
        self.here.retain(|_, domain| *domain != id);
        for served in &mut self.served {
            if let Some(server) = served.server.filter(|server| *server == id || served.domain == id) {
                if let Err(errno) = served.device.remove(&mut self.bus, served.domain, server) {
                    warn!("d{}: the nodes of a device of {}: {errno:?}", served.domain, served.driver);
                }
                served.server = None;
            }
        }
        self.served.retain(|served| served.domain != id);
    }
}

/// The devices of a domain that others serve, and who.
fn devices(config: &DomainConfig) -> impl Iterator<Item = (Result<NewDevice, String>, &str)> {
    let disks = config.disks.iter().filter_map(|disk| match &disk.source {
        DiskSource::Domain(driver) => {
            let device = block::toolstack::device(disk);
            Some((device.map_err(|errno: Errno| format!("{}: {errno:?}", disk.name)), driver.as_str()))
        }
        DiskSource::Disk(_) | DiskSource::Partition(_) => None,
    });
    let networks = (0..).zip(&config.networks).filter_map(|(index, network)| {
        Some((Ok(net::toolstack::device(index, &network.into())), network.backend.as_deref()?))
    });
    disks.chain(networks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Connection, Limits, shared};
    use boot_archive::{Blob, DiskConfig, NetworkConfig, Scheduling};
    use guest_kernel::store::Tx;
    use std::vec;

    const DISK: &str = "device/vbd/51712";
    const NETWORK: &str = "device/vif/1";

    fn config(name: &str, driver: Option<&str>) -> DomainConfig {
        let network = |backend| NetworkConfig { mac: [0, 1, 2, 3, 4, 5], rate: None, any_source: false, backend };
        let disks = driver.map(|driver| DiskConfig {
            name: "xvda".into(),
            source: DiskSource::Domain(driver.into()),
            read_only: false,
        });
        let networks = vec![network(None), network(driver.map(String::from))];
        DomainConfig {
            name: name.into(),
            control: false,
            command_line: String::new(),
            memory_pages: 1024,
            vcpus: 1,
            scheduling: Scheduling::default(),
            kernel: Blob { offset: 0, len: 0, crc32: 0 },
            ramdisk: None,
            disks: disks.into_iter().collect(),
            networks: if driver.is_some() { networks } else { Vec::new() },
        }
    }

    struct World {
        drivers: Drivers<Connection>,
        bus: Connection,
    }

    fn world() -> World {
        let store = shared(Limits::default());
        World { drivers: Drivers::new(Connection::new(&store)), bus: Connection::new(&store) }
    }

    impl World {
        /// Who serves a device of domain 2, as the domain sees it.
        fn server(&mut self, device: &str) -> Result<String, Errno> {
            self.bus.read_text(Tx::NONE, &format!("/local/domain/2/{device}/backend-id"))
        }

        fn backends(&mut self, server: u16) -> Result<Vec<String>, Errno> {
            self.bus.directory(Tx::NONE, &format!("/local/domain/{server}/backend/vbd/2"))
        }
    }

    #[test]
    fn clients_find_their_devices_as_long_as_who_serves_them_is_there() {
        let mut world = world();
        assert_eq!(
            world.drivers.arrive(2, &config("client", Some("driver"))).unwrap_err(),
            "vbd 51712: driver is not there"
        );
        world.drivers.arrive(1, &config("driver", None)).unwrap();
        world.drivers.arrive(2, &config("client", Some("driver"))).unwrap();
        assert_eq!([world.server(DISK), world.server(NETWORK)], [Ok("1".into()), Ok("1".into())]);
        assert_eq!(world.server("device/vif/0"), Err(Errno::ENOENT), "this domain's own");

        world.drivers.leave(1);
        assert_eq!([world.server(DISK), world.server(NETWORK)], [Err(Errno::ENOENT), Err(Errno::ENOENT)]);
        assert_eq!(world.backends(1), Ok(vec![]));

        world.drivers.arrive(3, &config("driver", None)).unwrap();
        assert_eq!([world.server(DISK), world.server(NETWORK)], [Ok("3".into()), Ok("3".into())]);
        world.drivers.leave(2);
        assert_eq!((world.server(DISK), world.backends(3)), (Err(Errno::ENOENT), Ok(vec![])));
        assert!(world.drivers.served.is_empty());
        world.drivers.leave(3);
        assert!(world.drivers.here.is_empty());
    }

    #[test]
    fn what_a_driver_domain_writes_moves_nobody_elses_devices() {
        let mut world = world();
        world.drivers.arrive(1, &config("driver", None)).unwrap();
        world.drivers.arrive(2, &config("client", Some("driver"))).unwrap();
        let honest = "/local/domain/4/device/vbd/51712";
        world.bus.write(Tx::NONE, &format!("{honest}/backend-id"), b"0").unwrap();
        let lie = "/local/domain/1/backend/vbd/2/51712";
        world.bus.write(Tx::NONE, &format!("{lie}/frontend"), honest.as_bytes()).unwrap();
        world.bus.remove(Tx::NONE, "/local/domain/1/backend/vif").unwrap();
        world.drivers.leave(1);
        assert_eq!(world.bus.read(Tx::NONE, &format!("{honest}/backend-id")).unwrap(), b"0");
        assert_eq!([world.server(DISK), world.server(NETWORK)], [Err(Errno::ENOENT), Err(Errno::ENOENT)]);
    }
}
