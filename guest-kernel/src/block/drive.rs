//! A disk with its buffers: as many as its ring has slots, granted to the backend once and for all, so that a request costs
//! no change of a grant.

use super::{Broken, Details, Done, Failure, Offer, Operation, Requests, SECTOR_BYTES};
use crate::grant::{self, Access, Grant};
use crate::memory::{self, Run};
use crate::paging::{PAGE_BYTES, PAGE_SIZE};
use crate::store::Connection;
use crate::xenbus::{self, Device, XenbusState};
use crate::{event, hypercall, time};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU32;
use pv_abi::errno::Errno;
use pv_abi::event::EVTCHNSTAT_INTERDOMAIN;
use pv_abi::io::block::{BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifSegment};
use zerocopy::IntoBytes;

/// Bytes of a buffer: the most that a request reads or writes.
pub const BUFFER_BYTES: usize = PAGES * PAGE_BYTES;
/// Pages of a buffer.
const PAGES: usize = 16;
/// How long the backend may take to connect, to let go, or to answer any of the requests, in nanoseconds.
const PATIENCE: u64 = 30_000_000_000;
/// How often a waiting caller checks that the backend is still there, in nanoseconds.
const LOOK: u64 = 200_000_000;

/// Why a disk can't be used.
#[derive(Debug)]
pub enum Error {
    /// The store's.
    Store(Errno),
    /// The backend closed, or doesn't answer; in this state.
    Backend(XenbusState),
    /// There is no memory.
    Memory(memory::Error),
    /// Nothing can be granted.
    Grant(grant::Error),
    /// The hypervisor's.
    Refused(Errno),
    /// The backend doesn't keep to the protocol.
    Broken(Broken),
    /// The disk did not do what was asked.
    Failed(Failure),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store(errno) => write!(f, "XenStore: {errno:?}"),
            Error::Backend(state) => write!(f, "the backend is {state:?}"),
            Error::Memory(error) => error.fmt(f),
            Error::Grant(error) => write!(f, "grants: {error:?}"),
            Error::Refused(errno) => write!(f, "the hypervisor: {errno:?}"),
            Error::Broken(Broken::Gone) => f.write_str("the backend is gone"),
            Error::Broken(Broken::Silent) => f.write_str("the backend doesn't answer"),
            Error::Broken(broken) => write!(f, "the backend lost its mind: {broken}"),
            Error::Failed(Failure::Unsupported) => f.write_str("the disk can't do that"),
            Error::Failed(Failure::Failed) => f.write_str("the disk failed"),
        }
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Error {
        Error::Memory(error)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Error {
        Error::Broken(broken)
    }
}

/// Pages, and the grants of each. Those that the backend still has when this is dropped are free when it lets go of them.
struct Pages {
    run: Option<Run>,
    grants: Vec<Grant>,
}

/// A disk.
pub struct Drive {
    device: Device,
    link: Link,
    /// Whether a request was begun or done since the last look at the clock, and when that was.
    moved: bool,
    since: u64,
}

/// What is shared with the backend.
struct Link {
    details: Details,
    /// In the memory of `ring`, and dropped before it.
    requests: Requests<&'static [AtomicU32]>,
    port: u32,
    _ring: Pages,
    buffers: Vec<Pages>,
    /// For each buffer, the page that lists its segments. They never change but for the length that is used.
    lists: Vec<Pages>,
}

impl Drive {
    /// The directories of the domain's disks.
    ///
    /// # Errors
    /// The store's.
    pub fn all(store: &mut Connection) -> Result<Vec<String>, Error> {
        xenbus::devices(store, "vbd").map_err(Error::Store)
    }

    /// Connects the disk with this directory, with a ring of up to `pages` pages. It may have been in use before.
    ///
    /// # Errors
    /// [`Error`]. It may be tried again.
    pub fn open(store: &mut Connection, directory: &str, pages: usize) -> Result<Drive, Error> {
        grant::reclaim();
        let device = Device::frontend(store, directory).map_err(Error::Store)?;
        device.watch(store).map_err(Error::Store)?;
        match Link::connect(store, &device, pages) {
            Ok(link) => Ok(Drive { device, link, moved: true, since: 0 }),
            Err(error) => {
                let _ = device.switch(store, XenbusState::Closed);
                let _ = device.unwatch(store);
                Err(error)
            }
        }
    }

    /// What the backend says of the disk.
    pub fn details(&self) -> &Details {
        &self.link.details
    }

    /// Requests that can be under way at a time: each has a buffer.
    pub fn slots(&self) -> usize {
        self.link.buffers.len()
    }

    /// Most bytes that a request reads or writes.
    pub fn request_bytes(&self) -> usize {
        match self.link.details.indirect_segments {
            0 => BLKIF_MAX_SEGMENTS_PER_REQUEST * PAGE_BYTES,
            segments => segments.min(PAGES) * PAGE_BYTES,
        }
    }

    /// A buffer. `None` while its request is under way: it is the disk's then.
    pub fn buffer(&mut self, slot: usize) -> Option<&mut [u8]> {
        if self.link.requests.is_under_way(slot) {
            return None;
        }
        let start = self.link.buffers.get(slot)?.start();
        // SAFETY: the pages are mapped for good, this drive's alone, and the backend has no request for them. One that
        // writes them all the same only spoils bytes.
        Some(unsafe { core::slice::from_raw_parts_mut(start, BUFFER_BYTES) })
    }

    /// Begins to read `bytes` into a buffer; whether it could.
    pub fn read(&mut self, slot: usize, sector: u64, bytes: usize) -> bool {
        self.transfer(false, slot, sector, bytes)
    }

    /// Begins to write `bytes` of a buffer; whether it could.
    pub fn write(&mut self, slot: usize, sector: u64, bytes: usize) -> bool {
        self.transfer(true, slot, sector, bytes)
    }

    /// Begins to make durable all that was written; whether it could. It takes a slot like other requests.
    pub fn flush(&mut self, slot: usize) -> bool {
        self.submit(slot, Operation::Flush)
    }

    /// Tells the backend of what was begun.
    pub fn kick(&mut self) {
        if self.link.requests.publish() {
            let _ = hypercall::send(self.link.port);
        }
    }

    /// The next request that is done: its slot, and how it went.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn take(&mut self) -> Result<Option<Done>, Broken> {
        let done = self.link.requests.take();
        self.moved |= matches!(done, Ok(Some(_)));
        done
    }

    fn submit(&mut self, slot: usize, operation: Operation<'_>) -> bool {
        self.moved = true;
        self.link.requests.submit(slot, operation)
    }

    /// Sleeps until `count` more requests are done, or all that are under way; or until an event comes, which a backend may
    /// send without cause.
    ///
    /// # Errors
    /// [`Broken`]; among them that no request was done for a long time, however many events came.
    pub fn sleep(&mut self, count: u32) -> Result<(), Broken> {
        while !self.arm(count)? {
            let now = time::now().unwrap_or(0);
            if core::mem::take(&mut self.moved) {
                self.since = now;
            } else if now > self.since + PATIENCE {
                return Err(Broken::Silent);
            }
            let _ = hypercall::poll(&[self.link.port], now + LOOK);
            if event::is_pending(self.link.port) {
                break;
            }
            // A backend that closes sends no event, but gives up its end of the channel.
            if !self.is_connected() {
                return Err(Broken::Gone);
            }
        }
        Ok(())
    }

    /// Asks for an event on [`port`](Self::port) when `count` more requests are done, or all that are under way. `true` if
    /// they are already.
    ///
    /// # Errors
    /// [`Broken`].
    #[must_use = "a request that is done already causes no event"]
    pub fn arm(&mut self, count: u32) -> Result<bool, Broken> {
        event::clear_pending(self.link.port);
        self.link.requests.arm(count)
    }

    /// The port on which the backend tells of requests that are done. It is masked: for [`hypercall::poll`].
    pub fn port(&self) -> u32 {
        self.link.port
    }

    /// Whether the backend has its end of the event channel.
    pub fn is_connected(&self) -> bool {
        hypercall::port_status(self.link.port).is_ok_and(|is| is.status == EVTCHNSTAT_INTERDOMAIN)
    }

    /// Waits for one request, and for it only.
    ///
    /// # Errors
    /// [`Error`].
    pub fn finish(&mut self) -> Result<usize, Error> {
        self.kick();
        loop {
            match self.take()? {
                Some((slot, outcome)) => return outcome.map(|()| slot).map_err(Error::Failed),
                None => self.sleep(1)?,
            }
        }
    }

    /// Closes the disk, which may be [opened](Self::open) again. The backend lets go of its pages, which are this domain's
    /// alone again.
    ///
    /// # Errors
    /// The store's, or that the backend doesn't let go.
    pub fn close(self, store: &mut Connection) -> Result<(), Error> {
        let done = self.disconnect(store);
        let _ = self.device.unwatch(store);
        let _ = event::close(self.link.port);
        done
    }

    fn disconnect(&self, store: &mut Connection) -> Result<(), Error> {
        match self.device.switch(store, XenbusState::Closing) {
            // It was taken away.
            Err(Errno::ENOENT) => return Ok(()),
            switched => switched.map_err(Error::Store)?,
        }
        let deadline = time::now().unwrap_or(0) + PATIENCE;
        let closed = |state| matches!(state, XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown);
        wait_until(&self.device, store, deadline, closed)?;
        self.device.switch(store, XenbusState::Closed).map_err(Error::Store)?;
        wait_until(&self.device, store, deadline, |state| {
            !matches!(state, XenbusState::Closing | XenbusState::Connected)
        })
    }

    fn transfer(&mut self, write: bool, slot: usize, sector: u64, bytes: usize) -> bool {
        let Some(buffer) = self.link.buffers.get(slot) else { return false };
        let count = bytes.div_ceil(PAGE_BYTES);
        let whole = bytes > 0 && bytes <= self.request_bytes() && bytes.is_multiple_of(SECTOR_BYTES);
        if !whole || self.link.requests.is_under_way(slot) {
            return false;
        }
        let last = bytes - (count - 1) * PAGE_BYTES;
        let segments = buffer.segments(count, last / SECTOR_BYTES);
        if count <= BLKIF_MAX_SEGMENTS_PER_REQUEST {
            let operation =
                if write { Operation::Write(sector, &segments) } else { Operation::Read(sector, &segments) };
            return self.submit(slot, operation);
        }
        let list = &self.link.lists[slot];
        let bytes = segments.as_slice().as_bytes();
        // SAFETY: the page is this drive's, and no request uses it now.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), list.start(), bytes.len()) };
        let count = u16::try_from(count).unwrap_or(0);
        let operation = Operation::Indirect(write, sector, count, list.grants[0].reference());
        self.submit(slot, operation)
    }
}

impl Link {
    fn connect(store: &mut Connection, device: &Device, pages: usize) -> Result<Link, Error> {
        let deadline = time::now().unwrap_or(0) + PATIENCE;
        // After a disk that was closed, the backend offers itself again when it sees this.
        device.switch(store, XenbusState::Initialising).map_err(Error::Store)?;
        wait_until(device, store, deadline, |state| state == XenbusState::InitWait)?;
        let domain = device.other_domain();

        let most = Offer::most_pages(device, store).map_err(Error::Store)?;
        let ring = Pages::new(domain, 1 << pages.clamp(1, most).ilog2(), Access::Write)?;
        let requests = Requests::new(ring.words()).map_err(|error| Error::Broken(Broken::Ring(error)))?;
        let slots = requests.slots();
        let buffers: Vec<Pages> =
            (0..slots).map(|_| Pages::new(domain, PAGES, Access::Write)).collect::<Result<_, _>>()?;
        let lists = buffers.iter().map(|buffer| buffer.listed(domain)).collect::<Result<_, _>>()?;
        let port = hypercall::alloc_unbound(pv_abi::domid::DOMID_SELF, domain).map_err(Error::Refused)?;
        event::mask(port);

        let offer = Offer { ring: ring.grants.iter().map(Grant::reference).collect(), port };
        match offered(store, device, &offer, deadline) {
            Ok(details) => Ok(Link { details, requests, port, _ring: ring, buffers, lists }),
            Err(error) => {
                let _ = event::close(port);
                Err(error)
            }
        }
    }
}

/// Writes where the ring is, and waits for the backend. What it says of the disk is returned.
fn offered(store: &mut Connection, device: &Device, offer: &Offer, deadline: u64) -> Result<Details, Error> {
    offer.write(device, store).map_err(Error::Store)?;
    let gone = |state| matches!(state, XenbusState::Closing | XenbusState::Closed);
    wait_until(device, store, deadline, |state| state == XenbusState::Connected || gone(state))?;
    let state = device.their_state(store).map_err(Error::Store)?;
    if state != XenbusState::Connected {
        return Err(Error::Backend(state));
    }
    let details = Details::read(device, store).map_err(Error::Store)?;
    device.switch(store, XenbusState::Connected).map_err(Error::Store)?;
    Ok(details)
}

impl Pages {
    fn new(domain: u16, count: usize, access: Access) -> Result<Pages, Error> {
        let run = memory::lock()?.allocate_run(count)?;
        let first = run.machine_address() / PAGE_SIZE;
        let mut pages = Pages { run: Some(run), grants: Vec::with_capacity(count) };
        for mfn in first..first + count as u64 {
            pages.grants.push(grant::grant(domain, mfn, access).map_err(Error::Grant)?);
        }
        Ok(pages)
    }

    fn start(&self) -> *mut u8 {
        self.run.as_ref().expect("the pages until they are dropped").start().as_ptr()
    }

    /// A page for the list of these.
    fn listed(&self, domain: u16) -> Result<Pages, Error> {
        Pages::new(domain, 1, Access::Read)
    }

    /// The first `count` pages as segments, of the last one so many sectors.
    fn segments(&self, count: usize, sectors: usize) -> Vec<BlkifSegment> {
        let grants = self.grants.iter().take(count).map(Grant::reference);
        let mut segments: Vec<_> =
            grants.map(|gref| BlkifSegment { gref, last_sect: 7, ..BlkifSegment::default() }).collect();
        if let (Some(last), Ok(sectors)) = (segments.last_mut(), u8::try_from(sectors)) {
            last.last_sect = sectors - 1;
        }
        segments
    }

    fn words(&self) -> &'static [AtomicU32] {
        let count = self.grants.len() * PAGE_BYTES / 4;
        // SAFETY: the pages are mapped for good, and used as atomics only; they are freed when the ring is gone.
        unsafe { core::slice::from_raw_parts(self.start().cast(), count) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            grant::give_up(run, core::mem::take(&mut self.grants));
        }
    }
}

fn wait_until(
    device: &Device,
    store: &mut Connection,
    deadline: u64,
    done: impl Fn(XenbusState) -> bool,
) -> Result<(), Error> {
    loop {
        let state = device.their_state(store).map_err(Error::Store)?;
        if done(state) {
            return Ok(());
        }
        // A backend whose state changes all the time doesn't lack events.
        if store.wait(deadline).is_none() || time::now().is_none_or(|now| now >= deadline) {
            return Err(Error::Backend(state));
        }
    }
}
