//! A virtual disk: its negotiation with a frontend through XenStore, and its queues. Header: `io/blkif.h`.
//!
//! The back end follows the frontend's state ([`next_of_backend`]). `Closing` lasts until the disk is done with the
//! frontend's pages; then its rings and ports are given back.

use super::platform::Platform;
use super::queue::{Batch, Queue};
use super::request::Volume;
use crate::contain::Panicked;
use crate::domains::traffic::Traffic;
use crate::nodes::{Nodes, Unclear};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use guest_kernel::store::Bus;
use guest_kernel::xenbus::{Step, XenbusState, next_of_backend};
use pv_abi::io::block::VdiskFlags;
use pv_abi::io::xenbus::XEN_IO_PROTO_ABI_X86_64;

/// Pages of a ring, as a power of two, that a frontend may have: 256 requests.
const MAX_RING_ORDER: u32 = 3;
/// Queues that a frontend may have.
const MAX_QUEUES: u32 = 4;

/// A queue that is connected, and the port of its events.
type Connected<P> = (Queue<<P as Platform>::Ring>, <P as Platform>::Port);

/// A virtual disk, as one domain sees it.
pub struct Vbd<P: Platform> {
    /// The back end's directory in XenStore.
    directory: String,
    /// The frontend's.
    frontend: String,
    domain: u16,
    volume: Volume,
    state: XenbusState,
    queues: Vec<Connected<P>>,
    /// Of queues that are gone.
    earlier: Traffic,
    /// To panic when it next takes requests.
    is_to_panic: bool,
}

/// Why a frontend's device is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A node says nothing that it may.
    Node(Unclear),
    /// A page of a ring can't be mapped.
    Grant,
    /// The event channel can't be connected.
    Port,
    /// The ring.
    Ring(guest_kernel::ring::Error),
    /// None of the frontend's: serving it caused a panic.
    Panicked(Panicked),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Node(unclear) => unclear.fmt(f),
            Fault::Grant => f.write_str("the ring's pages can't be mapped"),
            Fault::Port => f.write_str("its event channel can't be connected"),
            Fault::Ring(error) => error.fmt(f),
            Fault::Panicked(panicked) => panicked.fmt(f),
        }
    }
}

impl From<Unclear> for Fault {
    fn from(unclear: Unclear) -> Fault {
        Fault::Node(unclear)
    }
}

impl<P: Platform> Vbd<P> {
    /// A virtual disk whose directory a toolstack wrote. Says that it waits for the frontend.
    pub fn new(directory: &str, frontend: &str, domain: u16, volume: Volume, store: &mut impl Bus) -> Vbd<P> {
        let mut vbd = Vbd {
            directory: directory.into(),
            frontend: frontend.into(),
            domain,
            volume,
            state: XenbusState::Initialising,
            queues: Vec::new(),
            earlier: Traffic::default(),
            is_to_panic: false,
        };
        vbd.offer(store);
        vbd
    }

    /// Where it is.
    pub const fn state(&self) -> XenbusState {
        self.state
    }

    /// Whose it is.
    pub const fn domain(&self) -> u16 {
        self.domain
    }

    /// What was read and written.
    pub fn traffic(&self) -> Traffic {
        self.queues.iter().fold(self.earlier, |all, (queue, _)| all + queue.traffic())
    }

    /// The frontend's directory.
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// The back end's directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Takes a step after the frontend's state. To be called when that changed, and when the disk is
    /// [done](Self::is_idle).
    ///
    /// # Errors
    /// When the frontend can't be connected. Its device closes.
    pub fn follow(&mut self, store: &mut impl Bus, platform: &mut P) -> Result<(), Fault> {
        let frontend = Nodes { directory: &self.frontend, bus: store }.state();
        loop {
            if self.state == XenbusState::Closing && self.is_idle() {
                self.release();
            }
            match next_of_backend(self.state, frontend) {
                Step::Offer => self.offer(store),
                Step::Connect => return self.try_connect(store, platform),
                Step::Close => self.close(store),
                Step::Finish if self.is_idle() => self.set_state(XenbusState::Closed, store),
                Step::Finish | Step::Wait => return Ok(()),
            }
        }
    }

    /// Takes nothing more from the frontend, and says so.
    pub fn close(&mut self, store: &mut impl Bus) {
        self.queues.iter_mut().for_each(|(queue, _)| queue.abandon());
        self.set_state(XenbusState::Closing, store);
    }

    /// Serves the frontend no more, after a panic in the middle of anything, and says so. What the disk doesn't use is
    /// let go at once.
    pub fn cut_off(&mut self, store: &mut impl Bus, platform: &mut P, batch: &mut Batch) {
        self.queues.iter_mut().for_each(|(queue, _)| queue.cut_off(batch));
        batch.cut_off(platform);
        if self.is_idle() {
            self.release();
        }
        self.set_state(XenbusState::Closing, store);
    }

    /// Gives back rings and ports.
    fn release(&mut self) {
        self.earlier = self.traffic();
        self.queues.clear();
    }

    /// Has it panic when it next takes requests, to see what becomes of its frontend.
    pub const fn doom(&mut self) {
        self.is_to_panic = true;
    }

    /// Takes nothing more from the frontend, whose directory is gone.
    pub fn abandon(&mut self) {
        self.queues.iter_mut().for_each(|(queue, _)| queue.abandon());
        self.state = XenbusState::Closing;
    }

    /// Whether it waited for the disk, and [`follow`](Self::follow) has something to do now.
    pub fn is_drained(&self) -> bool {
        self.state == XenbusState::Closing && !self.queues.is_empty() && self.is_idle()
    }

    /// Whether no page of the frontend is held for the disk.
    pub fn is_idle(&self) -> bool {
        self.queues.iter().all(|(queue, _)| queue.is_idle())
    }

    /// Takes requests that are due from all queues. `anyway`: even if no event came. Whether there may be more.
    ///
    /// # Errors
    /// A ring is broken. The device closes.
    pub fn take(
        &mut self,
        anyway: bool,
        store: &mut impl Bus,
        platform: &mut P,
        batch: &mut Batch,
    ) -> Result<bool, Fault> {
        if self.state != XenbusState::Connected {
            return Ok(false);
        }
        let mut more = false;
        for (queue, port) in &mut self.queues {
            if platform.rang(port) || anyway || queue.has_room_again() {
                match queue.take(&self.volume, platform, batch) {
                    Ok(some) => more |= some,
                    Err(error) => {
                        self.close(store);
                        return Err(Fault::Ring(error));
                    }
                }
            }
        }
        // In the middle of all: requests were taken, and pages are held for them.
        assert!(!core::mem::take(&mut self.is_to_panic), "asked for at the prompt");
        Ok(more)
    }

    /// Answers what is over in all queues, and tells the frontend where it asked for that. Whether that made room for
    /// requests that wait.
    pub fn answer(&mut self, platform: &mut P, batch: &mut Batch) -> bool {
        let mut room = false;
        for (queue, port) in &mut self.queues {
            if queue.answer(platform, batch) {
                platform.notify(port);
            }
            room |= queue.has_room_again();
        }
        room && self.state == XenbusState::Connected
    }

    /// Its queues.
    pub fn queues(&mut self) -> impl Iterator<Item = &mut Queue<P::Ring>> {
        self.queues.iter_mut().map(|(queue, _)| queue)
    }

    /// One of its queues.
    pub fn queue(&mut self, index: usize) -> Option<&mut Queue<P::Ring>> {
        self.queues.get_mut(index).map(|(queue, _)| queue)
    }

    /// Says what a frontend may ask for, then that it is waited for.
    fn offer(&mut self, store: &mut impl Bus) {
        let (order, queues) = (MAX_RING_ORDER.to_string(), MAX_QUEUES.to_string());
        Nodes { directory: &self.directory, bus: store }
            .publish(&[("max-ring-page-order", &order), ("multi-queue-max-queues", &queues)]);
        self.set_state(XenbusState::InitWait, store);
    }

    fn try_connect(&mut self, store: &mut impl Bus, platform: &mut P) -> Result<(), Fault> {
        match self.connect(store, platform) {
            Ok(queues) => {
                self.queues = queues;
                self.describe(store);
                self.set_state(XenbusState::Connected, store);
                Ok(())
            }
            Err(fault) => {
                self.set_state(XenbusState::Closing, store);
                Err(fault)
            }
        }
    }

    /// Maps what the frontend wrote down.
    fn connect(&self, store: &mut impl Bus, platform: &mut P) -> Result<Vec<Connected<P>>, Fault> {
        let mut node = Nodes { directory: &self.frontend, bus: store };
        // A frontend that doesn't say means its own layout, which is this one: 32-bit guests don't exist here.
        if node.text("protocol").is_some_and(|protocol| protocol != XEN_IO_PROTO_ABI_X86_64) {
            return Err(Unclear("protocol".into()).into());
        }
        let count = node.number_or("multi-queue-num-queues", 1, 1..=MAX_QUEUES)?;
        let order = node.number_or("ring-page-order", 0, 0..=MAX_RING_ORDER)?;
        let multi_page = node.text("ring-page-order").is_some();
        let mut queues = Vec::new();
        for index in 0..count {
            let place = if count == 1 { String::new() } else { format!("queue-{index}/") };
            let names: Vec<String> = if multi_page {
                (0..1 << order).map(|page| format!("{place}ring-ref{page}")).collect()
            } else {
                [format!("{place}ring-ref")].into()
            };
            let mut pages = Vec::new();
            for name in &names {
                pages.push(node.parsed(name)?);
            }
            let remote = node.parsed(&format!("{place}event-channel"))?;
            let ring = platform.ring(self.domain, &pages).ok_or(Fault::Grant)?;
            let queue = Queue::new(ring, self.domain).map_err(Fault::Ring)?;
            let port = platform.port(self.domain, remote).ok_or(Fault::Port)?;
            queues.push((queue, port));
        }
        Ok(queues)
    }

    /// Says what the disk is like.
    fn describe(&self, store: &mut impl Bus) {
        let geometry = &self.volume.geometry;
        let mut info = VdiskFlags::empty();
        info.set(VdiskFlags::READONLY, geometry.read_only);
        let flag = |on: bool| String::from(if on { "1" } else { "0" });
        let mut nodes = Vec::from([
            ("sectors", geometry.sectors.to_string()),
            ("sector-size", geometry.sector_bytes.to_string()),
            ("physical-sector-size", geometry.physical_sector_bytes.to_string()),
            ("info", info.bits().to_string()),
            ("feature-barrier", flag(false)),
            ("feature-flush-cache", flag(geometry.flush)),
            ("feature-persistent", flag(false)),
            ("feature-discard", flag(geometry.discard.is_some())),
            ("feature-max-indirect-segments", self.volume.max_segments().to_string()),
        ]);
        if let Some(limits) = geometry.discard {
            nodes.push(("discard-granularity", limits.granularity.to_string()));
            nodes.push(("discard-alignment", "0".into()));
            nodes.push(("discard-secure", flag(false)));
        }
        let nodes: Vec<(&str, &str)> = nodes.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Nodes { directory: &self.directory, bus: store }.publish(&nodes);
    }

    fn set_state(&mut self, state: XenbusState, store: &mut impl Bus) {
        if self.state != state {
            self.state = state;
            Nodes { directory: &self.directory, bus: store }.publish(&[("state", &state.number().to_string())]);
        }
    }
}
