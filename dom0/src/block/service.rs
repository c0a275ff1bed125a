//! The back end as a service, and who writes the nodes of domains' disks.

use super::disk::{Chunk, Disk, Failed, Operation};
use super::hub::Hub;
use super::live::Calls;
use super::partitions::{self, HEAD_BYTES, Partition};
use super::toolstack::{self, BACKENDS};
use super::vbd::Fault;
use super::virtio::{self, VirtioDisk};
use super::volumes::{Volumes, is_given_away};
use crate::domains::traffic::Traffic;
use crate::domains::{Attendant, Newcomer};
use crate::nodes::Nodes;
use crate::service::{Full, Next, Service, Services, Waker};
use crate::store::{Connection, Shared};
use crate::toolstack::remove_all;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use boot_archive::DiskSource;
use core::cell::RefCell;
use guest_kernel::paging::PAGE_BYTES;
use guest_kernel::store::{Bus, Tx};
use guest_kernel::{hypercall, memory, time};
use log::{Level, info, log, warn};
use pv_abi::errno::Errno;

/// How long a disk may take to say what it is, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// The back end.
struct Backend {
    /// Between turns also that of [`Disks`].
    hub: Rc<RefCell<Hub<Calls>>>,
    volumes: Rc<Volumes>,
    bus: Connection,
}

/// Why there is no back end.
#[derive(Debug)]
pub enum Error {
    /// There are too many services.
    Full,
    /// The store's.
    Store(Errno),
    /// There is no memory.
    Memory(memory::Error),
}

impl From<Full> for Error {
    fn from(Full: Full) -> Error {
        Error::Full
    }
}

/// Opens the disks, of which `domains` will have some, and starts the back end. The attendant of the domains' disks is returned.
///
/// # Errors
/// [`Error`]. A disk that can't be used is no error: it is told, and left out.
pub fn start(
    services: &Services,
    store: &Shared,
    domains: &[boot_archive::DomainConfig],
) -> Result<Box<dyn Attendant>, Error> {
    services.add(|waker| {
        let mut hub = Hub::new(Calls::new(waker.clone()).map_err(Error::Memory)?);
        let mut volumes = Volumes::default();
        match virtio::functions() {
            Ok(functions) => {
                functions.iter().for_each(|function| open(function, domains, waker, &mut hub, &mut volumes));
            }
            Err(error) => warn!("no disks: {error}"),
        }
        let volumes = Rc::new(volumes);
        let mut bus = Connection::new(store);
        let woken = waker.clone();
        bus.on_event(move || woken.wake());
        bus.mkdir(Tx::NONE, BACKENDS).map_err(Error::Store)?;
        bus.watch(BACKENDS, BACKENDS).map_err(Error::Store)?;
        let hub = Rc::new(RefCell::new(hub));
        let (volumes_too, hub_too, waker) = (volumes.clone(), hub.clone(), waker.clone());
        let disks = Disks { bus: Connection::new(store), volumes: volumes_too, hub: hub_too, waker };
        let attendant: Box<dyn Attendant> = Box::new(disks);
        Ok((Backend { hub, volumes, bus }, attendant))
    })
}

fn open(
    function: &crate::pci::scan::Function,
    domains: &[boot_archive::DomainConfig],
    waker: &Waker,
    hub: &mut Hub<Calls>,
    volumes: &mut Volumes,
) {
    let place = function.address;
    match VirtioDisk::open(function, waker) {
        Ok(mut disk) => {
            let geometry = disk.geometry();
            let name = identify(&mut disk).unwrap_or_default();
            let table = if is_given_away(&name, domains.iter().flat_map(|domain| &domain.disks)) {
                Ok(Vec::new())
            } else {
                table(&mut disk)
            };
            let found = table.unwrap_or_else(|error| {
                warn!("disk {name:?} at {place}: {error}");
                Vec::new()
            });
            info!("disk {name:?}: {} MiB, {} partitions", geometry.sectors >> 11, found.len());
            for twice in volumes.add(hub.add_disk(Box::new(disk)), &name, geometry, &found) {
                warn!("there is more than one {twice}: nobody can have any of them");
            }
        }
        Err(error) => warn!("the virtio disk at {place} can't be used: {error}"),
    }
}

/// Waits for the disk's only operation. This is the one place that waits: nobody else is there yet.
fn wait(disk: &mut VirtioDisk) -> Result<(), Failed> {
    disk.kick();
    let now = || time::now().unwrap_or(0);
    let deadline = now() + PATIENCE;
    while now() < deadline {
        if let Some((_, result)) = disk.complete() {
            return result;
        }
        let _ = hypercall::yield_now();
    }
    Err(Failed)
}

fn identify(disk: &mut VirtioDisk) -> Option<String> {
    let identity = disk.identify(0).ok()?;
    wait(disk).ok()?;
    Some(disk.identity(&identity))
}

/// Reads the partition table.
fn table(disk: &mut VirtioDisk) -> Result<Vec<Partition>, String> {
    let geometry = disk.geometry();
    let sectors = geometry.sectors.min(HEAD_BYTES as u64 / 512);
    let bytes = usize::try_from(sectors * 512).unwrap_or(HEAD_BYTES);
    let run = memory::lock().and_then(|mut memory| memory.allocate_run(HEAD_BYTES / PAGE_BYTES));
    let run = run.map_err(|error| format!("{error}"))?;
    let chunk = Chunk { address: run.machine_address(), bytes: u32::try_from(bytes).unwrap_or(0) };
    let submitted = disk.submit(0, Operation::Read { sector: 0, into: &[chunk] });
    // The pages are not given back if the disk may still write to them.
    submitted
        .map_err(|_| ())
        .and_then(|()| wait(disk).map_err(|_| ()))
        .map_err(|()| String::from("it can't be read"))?;
    // SAFETY: the run is mapped, nobody else's, and the disk is done with it.
    let head = unsafe { core::slice::from_raw_parts(run.start().as_ptr(), bytes) };
    let found = partitions::read(head, geometry.sector_bytes, geometry.sectors).map_err(|error| format!("{error}"));
    if let Ok(mut memory) = memory::lock() {
        memory.release_run(run);
    }
    found
}

impl Service for Backend {
    fn work(&mut self, now: u64) -> Next {
        while let Some(event) = self.bus.event() {
            if event.token == BACKENDS {
                self.directory_changed(&event.path);
            } else {
                self.hub.borrow_mut().frontend_changed(&event.token);
            }
        }
        let mut hub = self.hub.borrow_mut();
        let later = hub.follow(now, &mut self.bus, &mut report);
        let (more, also_later) = hub.turn(now, &mut self.bus, &mut report);
        match later.into_iter().chain(also_later).min() {
            _ if more => Next::More,
            Some(later) => Next::WaitUntil(later),
            None => Next::Wait,
        }
    }
}

fn report(directory: &str, fault: &Fault) {
    let level = if matches!(fault, Fault::Panicked(_)) { Level::Error } else { Level::Warn };
    log!(level, "{directory}: closed: {fault}");
}

impl Backend {
    /// Something in the directory of a disk has changed, or in that of all of them.
    fn directory_changed(&mut self, path: &str) {
        let mut names = path.strip_prefix(BACKENDS).unwrap_or_default().split('/').skip(1);
        let (domain, device) = (names.next(), names.next());
        match (domain, device) {
            (Some(domain), Some(device)) => self.look(&format!("{BACKENDS}/{domain}/{device}")),
            // A whole domain's, or all: those that are gone are the ones to be found here.
            _ => {
                let prefix = format!("{path}/");
                let directories = self.hub.borrow().directories();
                for directory in directories {
                    if directory.starts_with(&prefix) {
                        self.look(&directory);
                    }
                }
            }
        }
    }

    /// Looks whether a disk is new, or gone.
    fn look(&mut self, directory: &str) {
        let frontend = self.bus.read_text(Tx::NONE, &format!("{directory}/frontend")).ok();
        let known = self.hub.borrow().has(directory);
        match (frontend, known) {
            (Some(frontend), false) => {
                if let Err(error) = self.adopt(directory, &frontend) {
                    warn!("{directory}: {error}");
                }
            }
            (None, true) => {
                let removed = self.hub.borrow_mut().remove(directory);
                if let Some(frontend) = removed {
                    let _ = self.bus.unwatch(&format!("{frontend}/state"), &frontend);
                }
            }
            _ => {}
        }
    }

    fn adopt(&mut self, directory: &str, frontend: &str) -> Result<(), String> {
        let mut nodes = Nodes { directory, bus: &mut self.bus };
        let told =
            nodes.parsed("frontend-id").and_then(|domain| Ok((domain, nodes.parsed("params")?, nodes.parsed("mode")?)));
        let (domain, params, mode): (u16, String, String) = told.map_err(|unclear| format!("{unclear}"))?;
        let read_only = mode != "w";
        let place = self.volumes.find(&params, read_only).ok_or_else(|| format!("there is no {params}"))?;
        self.hub.borrow_mut().add(directory, frontend, domain, place, &mut self.bus);
        // The first event comes at once.
        let watched = self.bus.watch(&format!("{frontend}/state"), frontend);
        watched.map_err(|errno| format!("{frontend} can't be watched: {errno:?}"))
    }
}

/// Sees to the nodes of domains' disks.
struct Disks {
    bus: Connection,
    volumes: Rc<Volumes>,
    hub: Rc<RefCell<Hub<Calls>>>,
    waker: Waker,
}

impl Attendant for Disks {
    fn arrive(&mut self, new: &Newcomer<'_>) -> Result<(), String> {
        let mut own = new.config.disks.iter().filter(|disk| !matches!(disk.source, DiskSource::Domain(_)));
        let added = own.try_for_each(|disk| {
            let params = toolstack::params(&disk.source);
            if self.volumes.find(&params, disk.read_only).is_none() {
                return Err(format!("{}: there is no {params}", disk.name));
            }
            let added = toolstack::device(disk).and_then(|device| device.add(&mut self.bus, new.created.id, 0));
            added.map_err(|errno| format!("{}: its nodes can't be written: {errno:?}", disk.name))
        });
        added.inspect_err(|_| self.leave(new.created.id))
    }

    fn leave(&mut self, id: u16) {
        // The back end sees that they are gone, and lets go of the domain's pages as the disk gets done with them.
        if let Err(errno) = remove_all(&mut self.bus, toolstack::KIND, id) {
            warn!("d{id}: its disks' nodes can't be removed: {errno:?}");
        }
    }

    fn traffic(&self, id: u16) -> Traffic {
        self.hub.borrow().traffic(id)
    }

    fn doom(&mut self, id: u16, kind: &str, number: u32) -> bool {
        let doomed = kind == "vbd" && self.hub.borrow_mut().doom(&format!("{BACKENDS}/{id}/{number}"));
        self.waker.wake();
        doomed
    }
}
