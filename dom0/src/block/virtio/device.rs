//! The device: what it says of itself, the memory of its queue, its interrupt.

use super::queue::{Layout, Queue};
use super::requests::{Identity, MAX_CHUNKS, Requests, SLOT_BYTES, tables};
use crate::block::disk::{DiscardLimits, Disk, Failed, Full, Geometry, Operation, SECTOR_BYTES};
use crate::pci::scan::Function;
use crate::service::{Port, Waker};
use crate::virtio::{self, Device};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU32;
use guest_kernel::memory;
use guest_kernel::paging::PAGE_BYTES;
use pv_abi::io::block::BLKIF_MAX_SEGMENTS_PER_REQUEST;
use virtio_drivers::transport::{DeviceType, Transport};

bitflags::bitflags! {
    /// Features. Virtio 1.2, sections 5.2.3 and 6.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        /// It says how many pieces of memory a request may have.
        const SEG_MAX = 1 << 2;
        /// It can't be written.
        const RO = 1 << 5;
        /// It says how large its sectors are.
        const BLK_SIZE = 1 << 6;
        /// It has a cache that can be written back.
        const FLUSH = 1 << 9;
        /// It says how large its physical sectors are.
        const TOPOLOGY = 1 << 10;
        /// It takes discards.
        const DISCARD = 1 << 13;
        /// Queues may have tables of descriptors.
        const RING_INDIRECT_DESC = 1 << 28;
        /// Both sides say when they want to be told.
        const RING_EVENT_IDX = 1 << 29;
        /// It is a modern one.
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the configuration. Virtio 1.2, section 5.2.4.
mod config {
    pub const CAPACITY: usize = 0;
    pub const SEG_MAX: usize = 12;
    pub const BLK_SIZE: usize = 20;
    pub const PHYSICAL_BLOCK_EXP: usize = 24;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const DISCARD_SECTOR_ALIGNMENT: usize = 44;
}

/// The queue that is used: the first.
const QUEUE: u16 = 0;
/// Most operations that the disk is given at a time.
const MAX_SIZE: u32 = 128;

/// Why a disk can't be used.
#[derive(Debug)]
pub enum Error {
    /// The device.
    Device(virtio::Error),
    /// There is no memory for its queue.
    Memory(memory::Error),
    /// It can't be read what it says of itself.
    Configuration,
    /// It lacks something that is needed.
    Lacks(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Device(error) => error.fmt(f),
            Error::Memory(error) => error.fmt(f),
            Error::Configuration => f.write_str("its configuration can't be read"),
            Error::Lacks(what) => write!(f, "it has no {what}"),
        }
    }
}

impl From<virtio::Error> for Error {
    fn from(error: virtio::Error) -> Error {
        Error::Device(error)
    }
}

impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Error {
        Error::Memory(error)
    }
}

/// A disk.
pub struct VirtioDisk {
    device: Device,
    port: Port,
    requests: Requests<&'static [AtomicU32]>,
    geometry: Geometry,
}

/// The virtio disks that there are.
///
/// # Errors
/// The hypervisor's, if the domain may not use ports.
pub fn functions() -> Result<Vec<Function>, virtio::Error> {
    Ok(virtio::devices(DeviceType::Block)?)
}

impl VirtioDisk {
    /// Opens a disk, whose interrupts wake a service.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(function: &Function, waker: &Waker) -> Result<VirtioDisk, Error> {
        let mut device = Device::open(function, true, |_| ())?;
        let features = device.begin(Features::all());
        for (needed, name) in [
            (Features::VERSION_1, "modern interface"),
            (Features::RING_INDIRECT_DESC, "tables of descriptors"),
            (Features::SEG_MAX, "requests of many segments"),
        ] {
            if !features.contains(needed) {
                return Err(Error::Lacks(name));
            }
        }
        let geometry = geometry(device.transport(), features).map_err(|_| Error::Configuration)?;
        if geometry.max_chunks < BLKIF_MAX_SEGMENTS_PER_REQUEST {
            return Err(Error::Lacks("requests of enough segments"));
        }
        let requests = queue(&mut device, features.contains(Features::RING_EVENT_IDX))?;
        let port = Port::attach(device.port(), waker);
        device.start()?;
        Ok(VirtioDisk { device, port, requests, geometry })
    }

    /// Asks for its serial number, which is its name: an operation like others. [`identity`](Self::identity) has it then.
    ///
    /// # Errors
    /// [`Full`].
    pub fn identify(&mut self, token: u64) -> Result<Identity, Full> {
        self.requests.identify(token)
    }

    /// The serial number that was asked for, when the operation has completed.
    pub fn identity(&self, identity: &Identity) -> String {
        let bytes = self.requests.identity(identity);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}

/// What the device says of itself.
fn geometry(transport: &impl Transport, features: Features) -> virtio_drivers::Result<Geometry> {
    let number = |feature: Features, offset, absent: u32| {
        if features.contains(feature) { transport.read_config_space::<u32>(offset) } else { Ok(absent) }
    };
    let halves = transport.read_consistent(|| {
        Ok([transport.read_config_space::<u32>(config::CAPACITY)?, transport.read_config_space(config::CAPACITY + 4)?])
    })?;
    let sector_bytes = number(Features::BLK_SIZE, config::BLK_SIZE, SECTOR_BYTES)?;
    let sector_bytes = if sector_bytes.is_power_of_two() { sector_bytes.max(SECTOR_BYTES) } else { SECTOR_BYTES };
    let [exponent, ..] = number(Features::TOPOLOGY, config::PHYSICAL_BLOCK_EXP, 0)?.to_le_bytes();
    let max_discard = number(Features::DISCARD, config::MAX_DISCARD_SECTORS, 0)?;
    let unit = number(Features::DISCARD, config::DISCARD_SECTOR_ALIGNMENT, 1)?;
    let granularity = unit.max(1).saturating_mul(SECTOR_BYTES);
    let max_chunks = number(Features::SEG_MAX, config::SEG_MAX, 1)?;
    Ok(Geometry {
        sectors: u64::from(halves[0]) | u64::from(halves[1]) << 32,
        sector_bytes,
        physical_sector_bytes: sector_bytes << exponent.min(7),
        read_only: features.contains(Features::RO),
        flush: features.contains(Features::FLUSH),
        discard: (max_discard > 0).then_some(DiscardLimits { granularity, max_sectors: max_discard }),
        max_chunks: (max_chunks as usize).min(MAX_CHUNKS),
    })
}

/// Makes the queue.
fn queue(device: &mut Device, event_index: bool) -> Result<Requests<&'static [AtomicU32]>, Error> {
    let most = device.queue_size(QUEUE).min(MAX_SIZE);
    if most < 2 {
        return Err(Error::Lacks("queue"));
    }
    let size = 1 << most.ilog2();
    let layout = Layout::new(size);
    let (ring, address) = run((4 * layout.words).div_ceil(PAGE_BYTES))?;
    let (slots, first) = run((usize::from(size) * SLOT_BYTES).div_ceil(PAGE_BYTES))?;
    let addresses: Vec<u64> = (0..u64::from(size)).map(|slot| first + slot * SLOT_BYTES as u64).collect();
    let parts = [0, layout.available, layout.used].map(|word| address + 4 * word as u64);
    device.set_queue(QUEUE, size, parts)?;
    Ok(Requests::new(Queue::new(ring, &tables(&addresses), event_index), slots, addresses))
}

/// Memory in one piece, for good, and its machine address.
fn run(pages: usize) -> Result<(&'static [AtomicU32], u64), memory::Error> {
    let run = memory::lock()?.allocate_run(pages)?;
    // SAFETY: the pages are mapped for good, full of zeros, and nobody else's; the device's accesses are like those of
    // another CPU.
    let words = unsafe { core::slice::from_raw_parts(run.start().as_ptr().cast(), pages * PAGE_BYTES / 4) };
    Ok((words, run.machine_address()))
}

impl Disk for VirtioDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit(&mut self, token: u64, operation: Operation<'_>) -> Result<(), Full> {
        self.requests.submit(token, operation)
    }

    fn kick(&mut self) {
        if self.requests.publish() {
            self.device.transport().notify(QUEUE);
        }
    }

    fn complete(&mut self) -> Option<(u64, Result<(), Failed>)> {
        // The interrupt first: what is completed from here on causes another.
        if self.port.rang() {
            self.device.acknowledge();
        }
        self.requests.complete()
    }
}
