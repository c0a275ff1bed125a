//! Guests' network devices on live grants, events and services.

use super::switch::Switch;
use super::toolstack::{self, NewVif};
use super::uplink::Uplink;
use super::vif::{GrantCopy, Piece, Platform, Refusal, Vif};
use crate::contain::indivisible;
use crate::domains::traffic::Traffic;
use crate::domains::{Attendant, Newcomer};
use crate::service::{Full, Next, Port, Service, Services, Waker};
use crate::store::{Connection, Shared};
use crate::toolstack::remove_all;
use crate::virtio::{self, machine_address};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::AtomicU32;
use guest_kernel::grant::{self, Access, End, Mapping};
use guest_kernel::paging::{PAGE_BYTES, PAGE_SIZE};
use guest_kernel::time;
use log::{Level, info, log, warn};
use pv_abi::grant::{GNTST_OKAY, GnttabCopy};
use virtio_drivers::transport::DeviceType;

/// Bytes of packets that wait for those that they are for, at most.
const PACKETS: usize = 8 << 20;

/// Opens the machine's own network device, if it has one, and starts the network. The attendant of the domains' devices is
/// returned. A device that can't be used is told, and left out.
pub fn start(services: &Services, store: &Shared) -> Box<dyn Attendant> {
    let switch = Rc::new(RefCell::new(Switch::new(PACKETS)));
    open_uplink(services, &switch);
    Box::new(Network { services: services.clone(), switch, store: store.clone(), vifs: BTreeMap::new() })
}

/// Gives guests their network devices.
struct Network {
    services: Services,
    switch: Rc<RefCell<Switch>>,
    store: Shared,
    vifs: BTreeMap<u16, Vec<Rc<RefCell<LiveVif>>>>,
}

type LiveVif = Vif<Live, Connection>;

impl Network {
    /// Adds a device, and returns what keeps it.
    fn add(&self, domain: u16, index: u32, new: &NewVif) -> Result<Rc<RefCell<LiveVif>>, Trouble> {
        let mut bus = Connection::new(&self.store);
        toolstack::device(index, new).add(&mut bus, domain, 0).map_err(Refusal::Store)?;
        let directory = format!("{}/{domain}/{index}", toolstack::BACKENDS);
        self.services.add(|waker| {
            let (events, packets) = (waker.clone(), waker.clone());
            bus.on_event(move || events.wake());
            let wake = Box::new(move || packets.wake());
            let now = time::now().unwrap_or(0);
            let vif = Vif::new(directory, bus, Live(waker.clone()), self.switch.clone(), wake, now)?;
            let vif = Rc::new(RefCell::new(vif));
            Ok((Turns(Rc::downgrade(&vif)), vif))
        })
    }
}

impl Attendant for Network {
    fn arrive(&mut self, new: &Newcomer<'_>) -> Result<(), String> {
        let domain = new.created.id;
        let mut vifs = Vec::new();
        let own = (0..).zip(&new.config.networks).filter(|(_, config)| config.backend.is_none());
        for (index, config) in own {
            match self.add(domain, index, &config.into()) {
                Ok(vif) => vifs.push(vif),
                Err(trouble) => {
                    drop(vifs);
                    self.leave(domain);
                    return Err(format!("network device {index}: {trouble}"));
                }
            }
        }
        self.vifs.insert(domain, vifs);
        Ok(())
    }

    fn leave(&mut self, id: u16) {
        // This wakes their services, which end when they find no device.
        if let Err(errno) = remove_all(&mut Connection::new(&self.store), toolstack::KIND, id) {
            warn!("d{id}: the nodes of its network devices stay: {errno:?}");
        }
        // With these the rings are unmapped.
        for vif in self.vifs.remove(&id).unwrap_or_default() {
            let counters = self.switch.borrow().counters(vif.borrow().port()).unwrap_or_default();
            let (sent, received) = (counters.sent, counters.received);
            info!(
                "d{id}: sent {} packets ({} KiB), received {} ({} KiB), {} refused, {} lost",
                sent.packets,
                sent.bytes >> 10,
                received.packets,
                received.bytes >> 10,
                counters.refused,
                counters.lost
            );
        }
    }

    fn traffic(&self, id: u16) -> Traffic {
        let switch = self.switch.borrow();
        let vifs = self.vifs.get(&id).into_iter().flatten();
        let counters = vifs.filter_map(|vif| switch.counters(vif.borrow().port()));
        counters.fold(Traffic::default(), |all, counters| Traffic {
            sent: all.sent + counters.sent.bytes,
            received: all.received + counters.received.bytes,
            ..all
        })
    }

    fn doom(&mut self, id: u16, kind: &str, number: u32) -> bool {
        let vifs = self.vifs.get(&id).filter(|_| kind == "vif");
        let vif = vifs.and_then(|vifs| vifs.get(usize::try_from(number).ok()?));
        vif.map(|vif| vif.borrow_mut().doom()).is_some()
    }
}

/// Connects the machine's own network device to the switch, if it has one.
fn open_uplink(services: &Services, switch: &Rc<RefCell<Switch>>) {
    let function = match virtio::devices(DeviceType::Network) {
        Ok(functions) => functions.into_iter().next(),
        Err(errno) => {
            warn!("network: this domain may not look for devices: {errno:?}");
            None
        }
    };
    let Some(function) = function else { return };
    let opened = services.add(|waker| Uplink::open(&function, switch.clone(), waker).map_err(NoUplink::Device));
    match opened {
        Ok(Some(mac)) => info!("network: {}, {mac}", function.address),
        Ok(None) => info!("network: {}", function.address),
        Err(NoUplink::Device(error)) => warn!("network: {}: {error}", function.address),
        Err(NoUplink::Full) => warn!("network: there are too many services"),
    }
}

/// Why there is no uplink.
enum NoUplink {
    Device(virtio::Error),
    Full,
}

impl From<Full> for NoUplink {
    fn from(Full: Full) -> NoUplink {
        NoUplink::Full
    }
}

/// Why a device can't be added.
enum Trouble {
    Refusal(Refusal),
    Full,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refusal(refusal) => refusal.fmt(f),
            Trouble::Full => f.write_str("there are too many services"),
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        Trouble::Refusal(refusal)
    }
}

impl From<Full> for Trouble {
    fn from(Full: Full) -> Trouble {
        Trouble::Full
    }
}

/// The turns of a device, as long as it is kept.
struct Turns(Weak<RefCell<LiveVif>>);

impl Service for Turns {
    fn work(&mut self, now: u64) -> Next {
        self.0.upgrade().map_or(Next::End, |vif| vif.borrow_mut().work(now))
    }
}

/// What is live; it wakes the device's service.
struct Live(Waker);

/// A page of a ring.
struct RingPage(Mapping);

impl AsRef<[AtomicU32]> for RingPage {
    fn as_ref(&self) -> &[AtomicU32] {
        // SAFETY: the page is mapped for writing while this lives, nothing in this domain uses it in another way, and what
        // the guest does to it atomics allow.
        unsafe { core::slice::from_raw_parts(self.0.address().cast(), PAGE_BYTES / size_of::<AtomicU32>()) }
    }
}

impl Platform for Live {
    type Ring = RingPage;
    type Port = Port;

    fn ring(&mut self, domain: u16, gref: u32) -> Option<RingPage> {
        indivisible(|| grant::map(domain, &[gref], Access::Write)).ok().map(RingPage)
    }

    fn port(&mut self, domain: u16, remote: u32) -> Option<Port> {
        indivisible(|| Port::connect(domain, remote, &self.0)).ok()
    }

    fn notify(&mut self, port: &Port) {
        port.notify();
    }

    fn pages(&mut self, domain: u16) -> impl GrantCopy {
        Copies(domain)
    }

    fn report(&mut self, level: Level, text: fmt::Arguments<'_>) {
        log!(level, "{text}");
    }
}

/// Copies from and to a domain's pages.
struct Copies(u16);

/// The requests of one piece that is `length` bytes at `address` here: one for each page of ours that it lies in.
fn requests(piece: Piece, address: u64, length: usize, mut each: impl FnMut(u64, u16, u16, u16)) {
    let mut done = 0;
    while done < length {
        let machine = machine_address(address + done as u64);
        let offset = machine % PAGE_SIZE;
        let chunk = (length - done).min(PAGE_BYTES - offset as usize);
        // All below a page's size: a piece lies within its page.
        let short = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        each(machine / PAGE_SIZE, short(offset as usize), piece.offset + short(done), short(chunk));
        done += chunk;
    }
}

/// Makes the copies, and says of each piece whether all of its requests were carried out. `owners`: whose each is.
fn carry_out(copies: &mut [GnttabCopy], owners: &[usize], pieces: usize) -> Vec<bool> {
    if copies.is_empty() {
        return [true].repeat(pieces);
    }
    // SAFETY: what is copied to in this domain are bytes of a buffer that the caller borrows for that.
    let outcome = unsafe { grant::copy_requests(copies) };
    let mut whole = [true].repeat(pieces);
    if let Err(grant::Error::Status(..)) = outcome {
        for (copy, owner) in copies.iter().zip(owners) {
            whole[*owner] &= copy.status == GNTST_OKAY;
        }
    } else if outcome.is_err() {
        whole.fill(false);
    }
    whole
}

impl GrantCopy for Copies {
    fn copy_in(&mut self, pieces: &mut [(Piece, &mut [u8])]) -> Vec<bool> {
        let (mut copies, mut owners) = (Vec::new(), Vec::new());
        for (index, (piece, to)) in pieces.iter_mut().enumerate() {
            requests(*piece, to.as_mut_ptr() as u64, to.len(), |mfn, own, theirs, length| {
                let source = End::Grant { domain: self.0, reference: piece.gref, offset: theirs };
                copies.push(grant::copy_request(source, End::Frame { mfn, offset: own }, length));
                owners.push(index);
            });
        }
        carry_out(&mut copies, &owners, pieces.len())
    }

    fn copy_out(&mut self, pieces: &[(Piece, &[u8])]) -> Vec<bool> {
        let (mut copies, mut owners) = (Vec::new(), Vec::new());
        for (index, (piece, from)) in pieces.iter().enumerate() {
            requests(*piece, from.as_ptr() as u64, from.len(), |mfn, own, theirs, length| {
                let dest = End::Grant { domain: self.0, reference: piece.gref, offset: theirs };
                copies.push(grant::copy_request(End::Frame { mfn, offset: own }, dest, length));
                owners.push(index);
            });
        }
        carry_out(&mut copies, &owners, pieces.len())
    }
}
