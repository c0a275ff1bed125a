//! What the two ends tell each other through XenStore.

use crate::store::{Bus, Tx};
use crate::xenbus::{Device, XenbusState};
use alloc::format;
use alloc::vec::Vec;
use pv_abi::errno::Errno;
use pv_abi::io::block::{BLKIF_MAX_SEGMENTS_PER_REQUEST, VdiskFlags};
use pv_abi::io::xenbus::XEN_IO_PROTO_ABI_X86_64;

/// What the backend says of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Details {
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// The smallest unit of a request in bytes.
    pub sector_bytes: u32,
    /// It can't be written.
    pub read_only: bool,
    /// It takes flushes.
    pub flush: bool,
    /// It takes discards.
    pub discard: bool,
    /// Most segments in an indirect request; 0 if it takes none.
    pub indirect_segments: usize,
}

impl Details {
    /// Reads them, from a backend that is connected.
    ///
    /// # Errors
    /// The store's; `EINVAL` for what makes no sense.
    pub fn read(device: &Device, bus: &mut impl Bus) -> Result<Details, Errno> {
        let tx = Tx::NONE;
        let info = VdiskFlags::from_bits_truncate(device.theirs(bus, tx, "info")?);
        let sector_bytes: u32 = device.theirs(bus, tx, "sector-size")?;
        let segments: usize = device.theirs_or(bus, tx, "feature-max-indirect-segments", 0)?;
        let sectors: u64 = device.theirs(bus, tx, "sectors")?;
        // Its size in bytes is a number, too.
        if !sector_bytes.is_power_of_two() || sector_bytes < 512 || sectors.checked_mul(512).is_none() {
            return Err(Errno::EINVAL);
        }
        Ok(Details {
            sectors,
            sector_bytes,
            read_only: info.contains(VdiskFlags::READONLY),
            flush: device.theirs_or(bus, tx, "feature-flush-cache", 0)? == 1,
            discard: device.theirs_or(bus, tx, "feature-discard", 0)? == 1,
            // Fewer than fit in a request are of no use.
            indirect_segments: if segments > BLKIF_MAX_SEGMENTS_PER_REQUEST { segments } else { 0 },
        })
    }
}

/// What the frontend offers: one ring, and its port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Grant references of the ring's pages, a power of two of them.
    pub ring: Vec<u32>,
    /// The event channel.
    pub port: u32,
}

impl Offer {
    /// How many pages a ring may have at this backend: a power of two.
    ///
    /// # Errors
    /// The store's.
    pub fn most_pages(device: &Device, bus: &mut impl Bus) -> Result<usize, Errno> {
        let order: u32 = device.theirs_or(bus, Tx::NONE, "max-ring-page-order", 0)?;
        Ok(1 << order.min(8))
    }

    /// Writes it, and says that it is there.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self, device: &Device, bus: &mut impl Bus) -> Result<(), Errno> {
        device.publish(bus, XenbusState::Initialised, |device, bus, tx| {
            if let [page] = self.ring[..] {
                device.write(bus, tx, "ring-ref", page)?;
            } else {
                device.write(bus, tx, "ring-page-order", self.ring.len().ilog2())?;
                for (index, page) in self.ring.iter().enumerate() {
                    device.write(bus, tx, &format!("ring-ref{index}"), page)?;
                }
            }
            device.write(bus, tx, "event-channel", self.port)?;
            device.write(bus, tx, "protocol", XEN_IO_PROTO_ABI_X86_64)?;
            device.write(bus, tx, "feature-persistent", 0)
        })
    }
}
