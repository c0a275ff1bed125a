//! A disk with its buffers: as many as its rings have slots, granted to the backend once and for all, so that a request costs
//! no change of a grant.

use super::{Broken, Details, Done, Failure, Offer, Operation, QueueOffer, Requests, SECTOR_BYTES};
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
use pv_abi::io::block::{BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifSegment};
use zerocopy::IntoBytes;

/// Bytes of a buffer: the most that a request reads or writes.
pub const BUFFER_BYTES: usize = PAGES * PAGE_BYTES;
/// Pages of a buffer.
const PAGES: usize = 16;
/// How long the backend may take to connect, in nanoseconds.
const PATIENCE: u64 = 30_000_000_000;

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

/// Pages, and the grants of each.
struct Pages {
    run: Run,
    grants: Vec<Grant>,
}

/// A ring with its event channel.
struct Queue {
    requests: Requests<&'static [AtomicU32]>,
    port: u32,
    ring: Pages,
}

/// A disk.
pub struct Drive {
    device: Device,
    details: Details,
    /// One or more, all of the same size.
    queues: Vec<Queue>,
    /// Of all queues, those of the first one first.
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

    /// Connects the disk with this directory, with up to `queues` rings of up to `pages` pages.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(store: &mut Connection, directory: &str, pages: usize, queues: usize) -> Result<Drive, Error> {
        let device = Device::frontend(store, directory).map_err(Error::Store)?;
        device.watch(store).map_err(Error::Store)?;
        // After a device that was closed, the back end offers itself again when it sees this.
        device.switch(store, XenbusState::Initialising).map_err(Error::Store)?;
        let deadline = time::now().unwrap_or(0) + PATIENCE;
        // It may be closed still.
        wait_until(&device, store, deadline, |state| state == XenbusState::InitWait)?;
        let domain = device.other_domain();

        let pages = 1 << pages.clamp(1, Offer::most_pages(&device, store).map_err(Error::Store)?).ilog2();
        let most = Offer::most_queues(&device, store).map_err(Error::Store)?;
        let queues: Vec<Queue> =
            (0..queues.clamp(1, most)).map(|_| Queue::new(domain, pages)).collect::<Result<_, _>>()?;
        let slots: usize = queues.iter().map(|queue| queue.requests.slots()).sum();
        let buffers: Vec<Pages> =
            (0..slots).map(|_| Pages::new(domain, PAGES, Access::Write)).collect::<Result<_, _>>()?;
        let lists = buffers.iter().map(|buffer| buffer.listed(domain)).collect::<Result<_, _>>()?;
        Offer(queues.iter().map(Queue::offer).collect()).write(&device, store).map_err(Error::Store)?;
        wait_for(&device, store, XenbusState::Connected, deadline)?;
        let details = Details::read(&device, store).map_err(Error::Store)?;
        device.switch(store, XenbusState::Connected).map_err(Error::Store)?;
        Ok(Drive { device, details, queues, buffers, lists })
    }

    /// What the backend says of the disk.
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// Requests that can be under way at a time: each has a buffer.
    pub fn slots(&self) -> usize {
        self.buffers.len()
    }

    /// Most bytes that a request reads or writes.
    pub fn request_bytes(&self) -> usize {
        match self.details.indirect_segments {
            0 => BLKIF_MAX_SEGMENTS_PER_REQUEST * PAGE_BYTES,
            segments => segments.min(PAGES) * PAGE_BYTES,
        }
    }

    /// A buffer. `None` while its request is under way: it is the disk's then.
    pub fn buffer(&mut self, slot: usize) -> Option<&mut [u8]> {
        if self.is_under_way(slot) {
            return None;
        }
        let start = self.buffers.get(slot)?.run.start();
        // SAFETY: the pages are mapped for good, this drive's alone, and the backend has no request for them. One that
        // writes them all the same only spoils bytes.
        Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), BUFFER_BYTES) })
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
        for queue in &mut self.queues {
            if queue.requests.publish() {
                let _ = hypercall::send(queue.port);
            }
        }
    }

    /// The next request that is done: its slot, and how it went.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn take(&mut self) -> Result<Option<Done>, Broken> {
        let mut first = 0;
        for queue in &mut self.queues {
            if let Some((number, outcome)) = queue.requests.take()? {
                return Ok(Some((first + number, outcome)));
            }
            first += queue.requests.slots();
        }
        Ok(None)
    }

    /// Sleeps until `count` more requests of a queue are done, or all of it that are under way.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn sleep(&mut self, count: u32) -> Result<(), Broken> {
        let mut ports = Vec::with_capacity(self.queues.len());
        for queue in self.queues.iter_mut().filter(|queue| queue.requests.any_under_way()) {
            event::clear_pending(queue.port);
            if queue.requests.arm(count)? {
                return Ok(());
            }
            ports.push(queue.port);
        }
        if !ports.is_empty() {
            let _ = hypercall::poll(&ports, 0);
        }
        Ok(())
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

    /// Closes the disk. The backend lets go of its pages, which are this domain's alone again.
    ///
    /// # Errors
    /// The store's, or that the backend doesn't let go.
    pub fn close(self, store: &mut Connection) -> Result<(), Error> {
        self.device.switch(store, XenbusState::Closing).map_err(Error::Store)?;
        let deadline = time::now().unwrap_or(0) + PATIENCE;
        let closed = |state| matches!(state, XenbusState::Closing | XenbusState::Closed | XenbusState::Unknown);
        wait_until(&self.device, store, deadline, closed)?;
        self.device.switch(store, XenbusState::Closed).map_err(Error::Store)?;
        wait_until(&self.device, store, deadline, |state| {
            !matches!(state, XenbusState::Closing | XenbusState::Connected)
        })?;
        let _ = self.device.unwatch(store);
        for queue in self.queues {
            let _ = event::close(queue.port);
            queue.ring.release();
        }
        self.buffers.into_iter().chain(self.lists).for_each(Pages::release);
        Ok(())
    }

    /// The queue of a slot, and the slot's number there.
    fn place(&self, slot: usize) -> (usize, usize) {
        let each = self.slots() / self.queues.len();
        (slot / each, slot % each)
    }

    fn is_under_way(&self, slot: usize) -> bool {
        let (queue, number) = self.place(slot);
        self.queues.get(queue).is_some_and(|queue| queue.requests.is_under_way(number))
    }

    fn submit(&mut self, slot: usize, operation: Operation<'_>) -> bool {
        let (queue, number) = self.place(slot);
        self.queues.get_mut(queue).is_some_and(|queue| queue.requests.submit(number, operation))
    }

    fn transfer(&mut self, write: bool, slot: usize, sector: u64, bytes: usize) -> bool {
        let Some(buffer) = self.buffers.get(slot) else { return false };
        let count = bytes.div_ceil(PAGE_BYTES);
        let whole = bytes > 0 && bytes <= self.request_bytes() && bytes.is_multiple_of(SECTOR_BYTES);
        if !whole || self.is_under_way(slot) {
            return false;
        }
        let last = bytes - (count - 1) * PAGE_BYTES;
        let segments = buffer.segments(count, last / SECTOR_BYTES);
        if count <= BLKIF_MAX_SEGMENTS_PER_REQUEST {
            let operation =
                if write { Operation::Write(sector, &segments) } else { Operation::Read(sector, &segments) };
            return self.submit(slot, operation);
        }
        let list = &self.lists[slot];
        let bytes = segments.as_slice().as_bytes();
        // SAFETY: the page is this drive's, and no request uses it now.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), list.run.start().as_ptr(), bytes.len()) };
        let count = u16::try_from(count).unwrap_or(0);
        let list = list.grants[0].reference();
        self.submit(slot, Operation::Indirect(write, sector, count, list))
    }
}

impl Queue {
    fn new(domain: u16, pages: usize) -> Result<Queue, Error> {
        let ring = Pages::new(domain, pages, Access::Write)?;
        let requests = Requests::new(ring.words()).map_err(|error| Error::Broken(Broken::Ring(error)))?;
        let port = hypercall::alloc_unbound(pv_abi::domid::DOMID_SELF, domain).map_err(Error::Refused)?;
        event::mask(port);
        Ok(Queue { requests, port, ring })
    }

    fn offer(&self) -> QueueOffer {
        QueueOffer { ring: self.ring.grants.iter().map(Grant::reference).collect(), port: self.port }
    }
}

impl Pages {
    fn new(domain: u16, count: usize, access: Access) -> Result<Pages, Error> {
        let run = memory::lock()?.allocate_run(count)?;
        let first = run.machine_address() / PAGE_SIZE;
        let grants = (first..first + count as u64).map(|mfn| grant::grant(domain, mfn, access));
        Ok(Pages { grants: grants.collect::<Result<_, _>>().map_err(Error::Grant)?, run })
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
        let count = self.run.pages() * PAGE_BYTES / 4;
        // SAFETY: the pages are mapped for good, and used as atomics only; they are freed when the ring is gone.
        unsafe { core::slice::from_raw_parts(self.run.start().as_ptr().cast(), count) }
    }

    /// Frees the pages, unless the backend still has one of them: then they are lost.
    fn release(self) {
        if self.grants.into_iter().all(|grant| grant.end().is_ok())
            && let Ok(mut memory) = memory::lock()
        {
            memory.release_run(self.run);
        }
    }
}

fn wait_for(device: &Device, store: &mut Connection, state: XenbusState, deadline: u64) -> Result<(), Error> {
    let gone = |other| matches!(other, XenbusState::Closing | XenbusState::Closed);
    wait_until(device, store, deadline, |other| other == state || gone(other))?;
    let other = device.their_state(store).map_err(Error::Store)?;
    if other == state { Ok(()) } else { Err(Error::Backend(other)) }
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
        if store.wait(deadline).is_none() {
            return Err(Error::Backend(state));
        }
    }
}
