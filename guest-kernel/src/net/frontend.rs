//! The frontend of a network device, live: its pages, its event channel, its negotiation through XenStore.
//! Header: `io/netif.h`.

use super::Mac;
use super::nic::Nic;
use super::rings::{Fault, Pages, RX_PAGES, Rings, TX_PAGES};
use crate::grant::{self, Access, Grant};
use crate::memory::{self, Run};
use crate::paging::{PAGE_BYTES, PAGE_SIZE};
use crate::store::{Connection, Tx};
use crate::xenbus::{Device, XenbusState};
use crate::{event, hypercall, time};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::copy_nonoverlapping;
use core::sync::atomic::AtomicU32;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;

/// How long a back end may take for a step, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// Why a device can't be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// XenStore, or an event channel.
    Refused(Errno),
    /// There is no memory.
    Memory(memory::Error),
    /// Pages can't be granted.
    Grant(grant::Error),
    /// What the toolstack wrote makes no sense.
    Node(&'static str),
    /// The back end didn't take its next step.
    NoBackend,
    /// The back end lies.
    Fault(Fault),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(errno) => write!(f, "refused: {errno:?}"),
            Error::Memory(error) => error.fmt(f),
            Error::Grant(error) => write!(f, "grants: {error:?}"),
            Error::Node(name) => write!(f, "{name} makes no sense"),
            Error::NoBackend => f.write_str("there is no back end"),
            Error::Fault(fault) => fault.fmt(f),
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Error {
        Error::Memory(error)
    }
}

impl From<grant::Error> for Error {
    fn from(error: grant::Error) -> Error {
        Error::Grant(error)
    }
}

/// A page of this domain that another one may use.
struct Shared {
    run: Option<Run>,
    grant: Option<Grant>,
}

impl Shared {
    fn new(domain: u16, access: Access) -> Result<Shared, Error> {
        let run = memory::lock()?.allocate_run(1)?;
        let grant = grant::grant(domain, run.machine_address() / PAGE_SIZE, access);
        let mut shared = Shared { run: Some(run), grant: None };
        shared.grant = Some(grant?);
        Ok(shared)
    }

    fn gref(&self) -> u32 {
        self.grant.as_ref().map_or(0, Grant::reference)
    }

    fn start(&self) -> *mut u8 {
        self.run.as_ref().expect("the page until it is dropped").start().as_ptr()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            grant::give_up(run, self.grant.take().into_iter().collect());
        }
    }
}

impl AsRef<[AtomicU32]> for Shared {
    fn as_ref(&self) -> &[AtomicU32] {
        // SAFETY: the page is this domain's and mapped while this lives. The other domain writes it, which atomics allow.
        unsafe { core::slice::from_raw_parts(self.start().cast(), PAGE_BYTES / size_of::<AtomicU32>()) }
    }
}

/// Pages for packets.
struct Packets(Vec<Shared>);

impl Pages for Packets {
    fn gref(&self, page: usize) -> u32 {
        self.0[page].gref()
    }

    fn write<T>(&mut self, page: usize, length: usize, write: impl FnOnce(&mut [u8]) -> T) -> T {
        assert!((RX_PAGES..RX_PAGES + TX_PAGES).contains(&page) && length <= PAGE_BYTES);
        // SAFETY: the other domain may only read this page, and the borrow of `self` keeps others here away.
        write(unsafe { core::slice::from_raw_parts_mut(self.0[page].start(), length) })
    }

    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        assert!(offset <= PAGE_BYTES && into.len() <= PAGE_BYTES - offset);
        // SAFETY: the bytes are in the page. Another domain may change them meanwhile; then some others are copied, which
        // is all it can do: there is no reference to them.
        unsafe { copy_nonoverlapping(self.0[page].start().add(offset), into.as_mut_ptr(), into.len()) };
    }
}

/// A device that is connected.
pub struct Netfront {
    device: Device,
    nic: Nic<Shared, Packets>,
    mac: Mac,
    port: u32,
}

impl Netfront {
    /// Connects the device whose directory this is, and waits until the back end has done the same.
    ///
    /// # Errors
    /// [`Error`]. The device may be tried again.
    pub fn connect(store: &mut Connection, directory: &str) -> Result<Netfront, Error> {
        grant::reclaim();
        let device = Device::frontend(store, directory)?;
        let mac: String = device.own(store, Tx::NONE, "mac")?;
        let mac = mac.parse().map_err(|_| Error::Node("mac"))?;
        device.watch(store)?;
        let connected = Netfront::connect_device(store, &device);
        match connected {
            Ok((nic, port)) => Ok(Netfront { device, nic, mac, port }),
            Err(error) => {
                let _ = device.unwatch(store);
                Err(error)
            }
        }
    }

    fn connect_device(store: &mut Connection, device: &Device) -> Result<(Nic<Shared, Packets>, u32), Error> {
        // After a device that was closed, the back end offers itself again when it sees this.
        device.switch(store, XenbusState::Initialising)?;
        wait_for(store, device, XenbusState::InitWait)?;
        let blank = device.theirs_or(store, Tx::NONE, "feature-no-csum-offload", 0)? == 0;
        let backend = device.other_domain();
        let (tx, rx) = (Shared::new(backend, Access::Write)?, Shared::new(backend, Access::Write)?);
        let accesses = [Access::Write].repeat(RX_PAGES).into_iter().chain([Access::Read].repeat(TX_PAGES));
        let pages: Result<Vec<Shared>, Error> = accesses.map(|access| Shared::new(backend, access)).collect();
        let references = [("tx-ring-ref", tx.gref()), ("rx-ring-ref", rx.gref())];
        // A page is larger than the least ring.
        let rings = Rings::new(tx, rx, Packets(pages?)).map_err(|error| Error::Fault(Fault::Ring(error)))?;
        let port = hypercall::alloc_unbound(DOMID_SELF, backend)?;
        event::mask(port);
        // The back end must not read the ring before it is whole, nor be told before it knows the port: it looks then.
        let mut nic = Nic::new(rings, blank);
        let offered = publish(store, device, &references, port)
            .and_then(|()| wait_for(store, device, XenbusState::Connected))
            .and_then(|()| nic.settle().map_err(Error::Fault));
        match offered {
            Ok((_, notify)) => {
                if notify {
                    hypercall::send(port)?;
                }
                Ok((nic, port))
            }
            Err(error) => {
                let _ = device.switch(store, XenbusState::Closed);
                let _ = event::close(port);
                Err(error)
            }
        }
    }

    /// Its address.
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// The port on which the back end tells of packets. It is masked: for [`hypercall::poll`].
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// The device for a stack.
    pub fn nic(&mut self) -> &mut impl smoltcp::phy::Device {
        &mut self.nic
    }

    /// Sends a TCP packet over IPv4 of up to 64 KiB, with a blank checksum, to be cut into segments of `segment` bytes of
    /// data by whom that concerns; whether there was room. [`settle`](Self::settle) tells the back end, which must
    /// [take](Self::takes_large) such packets.
    pub fn send_large(&mut self, packet: &[u8], segment: u16) -> bool {
        self.nic.send_large(packet, segment)
    }

    /// Whether the back end takes large TCP packets over IPv4.
    ///
    /// # Errors
    /// The store's.
    pub fn takes_large(&self, store: &mut Connection) -> Result<bool, Errno> {
        let mut offers = |name| Ok(self.device.theirs_or(store, Tx::NONE, name, 0)? == 1);
        Ok(offers("feature-sg")? && offers("feature-gso-tcpv4")?)
    }

    /// Packets that came with a wrong checksum.
    pub const fn spoiled(&self) -> u64 {
        self.nic.spoiled()
    }

    /// What came is going to be looked for: the next event is a new one.
    pub fn begin(&self) {
        event::clear_pending(self.port);
    }

    /// After the stack has looked at the device: tells the back end what it wants to know. Whether there is more to do
    /// at once.
    ///
    /// # Errors
    /// What the back end did wrong. Then [`close`](Self::close).
    pub fn settle(&mut self) -> Result<bool, Fault> {
        let (more, notify) = self.nic.settle()?;
        if notify {
            // A port that can't be sent to is a back end that is gone, of which its state tells.
            let _ = hypercall::send(self.port);
        }
        Ok(more)
    }

    /// Whether the back end goes on. To be asked when the store has told of a change.
    pub fn is_connected(&self, store: &mut Connection) -> bool {
        self.device.their_state(store) == Ok(XenbusState::Connected)
    }

    /// Whether an event is of this device.
    pub fn concerns(&self, event: &crate::store::Event) -> bool {
        self.device.concerns(event)
    }

    /// Lets go of the device, which may be [connected](Self::connect) again. Waits a while for the back end to let go of
    /// the pages; those that it keeps are free when it lets go of them.
    pub fn close(self, store: &mut Connection) {
        // `ENOENT`: the device was taken away.
        let mut closing = self.device.switch(store, XenbusState::Closing).is_ok();
        let limit = time::now().unwrap_or(0) + PATIENCE;
        while closing && time::now().is_some_and(|now| now < limit) {
            let state = self.device.their_state(store).unwrap_or(XenbusState::Unknown);
            closing = !matches!(state, XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown);
            if closing {
                store.sleep(limit);
            }
        }
        let _ = self.device.switch(store, XenbusState::Closed);
        let _ = self.device.unwatch(store);
        let _ = event::close(self.port);
    }
}

/// Writes where the rings are, and what the device can take.
fn publish(store: &mut Connection, device: &Device, references: &[(&str, u32)], port: u32) -> Result<(), Error> {
    let published = device.publish(store, XenbusState::Connected, |device, store, tx| {
        for (name, gref) in references {
            device.write(store, tx, name, gref)?;
        }
        device.write(store, tx, "event-channel", port)?;
        for name in ["request-rx-copy", "feature-rx-notify", "feature-sg", "feature-gso-tcpv4"] {
            device.write(store, tx, name, 1)?;
        }
        Ok(())
    });
    Ok(published?)
}

/// Waits until the back end is in a state.
fn wait_for(store: &mut Connection, device: &Device, state: XenbusState) -> Result<(), Error> {
    let limit = time::now().unwrap_or(0) + PATIENCE;
    while device.their_state(store)? != state {
        if time::now().is_none_or(|now| now >= limit) {
            return Err(Error::NoBackend);
        }
        store.sleep(limit);
    }
    Ok(())
}
