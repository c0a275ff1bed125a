//! What a frontend asks for: requests of the ring decoded and checked. All of it is hostile until then.

use super::disk::{DiscardLimits, Geometry, SECTOR_BYTES};
use alloc::vec::Vec;
use pv_abi::io::block::*;
use zerocopy::{FromBytes, IntoBytes};

/// Most segments of an indirect request that a frontend may send.
pub const MAX_INDIRECT_SEGMENTS: usize = 256;
/// They fit in one page, whatever number of pages the protocol allows.
const _: () = assert!(MAX_INDIRECT_SEGMENTS * size_of::<BlkifSegment>() <= 4096);
/// Sectors of 512 bytes in a page.
const SECTORS_PER_PAGE: u8 = 8;

/// What a frontend sees as its disk: sectors of 512 bytes on a disk, from `first` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Volume {
    /// The first sector on the disk.
    pub first: u64,
    /// The disk's, but for `sectors`, which is the volume's size, and `read_only`, which may be the volume's alone.
    pub geometry: Geometry,
}

impl Volume {
    /// Most segments that an indirect request may have.
    pub fn max_segments(&self) -> usize {
        self.geometry.max_chunks.min(MAX_INDIRECT_SEGMENTS)
    }
}

/// Why a request is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It makes no sense, or reaches beyond the disk.
    Bad,
    /// The disk can't do this.
    Unsupported,
}

impl Refused {
    /// The response's status.
    pub const fn status(self) -> i16 {
        match self {
            Refused::Bad => BLKIF_RSP_ERROR,
            Refused::Unsupported => BLKIF_RSP_EOPNOTSUPP,
        }
    }
}

/// A part of a granted page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Grant reference of the page.
    pub gref: u32,
    /// Bytes into the page.
    pub offset: u16,
    /// Length.
    pub bytes: u16,
}

/// A request that makes sense so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Reads or writes the segments that came with the request. With `flush`, as [`BLKIF_OP_FLUSH_DISKCACHE`] has it:
    /// after all that completed before it is durable; and then it has to be durable itself.
    Transfer {
        /// To the disk.
        write: bool,
        /// With flushes around it.
        flush: bool,
        /// The first sector, of the volume.
        sector: u64,
    },
    /// Reads or writes segments that are listed in a granted page.
    Indirect {
        /// To the disk.
        write: bool,
        /// The first sector, of the volume.
        sector: u64,
        /// How many segments.
        count: usize,
        /// The page's grant reference.
        page: u32,
    },
    /// Makes what completed before durable.
    Flush,
    /// Forgets the contents of sectors.
    Discard {
        /// The first sector, of the volume.
        sector: u64,
        /// How many.
        sectors: u64,
        /// How many the disk takes at once: whole sectors of its own.
        most: u32,
    },
}

/// The operation that a response names: for an indirect request, the one inside.
pub fn response_operation(request: &BlkifRequest) -> u8 {
    if request.operation == BLKIF_OP_INDIRECT { indirect(request).indirect_op } else { request.operation }
}

/// Decodes and checks a request. Segments that it carries are appended to `segments`.
///
/// # Errors
/// What to answer instead.
pub fn decode(request: &BlkifRequest, volume: &Volume, segments: &mut Vec<Segment>) -> Result<Command, Refused> {
    let sector = request.sector_number;
    match request.operation {
        BLKIF_OP_READ | BLKIF_OP_WRITE => {
            let write = request.operation == BLKIF_OP_WRITE;
            carried(request, segments)?;
            check_transfer(write, sector, segments, volume)?;
            Ok(Command::Transfer { write, flush: false, sector })
        }
        BLKIF_OP_FLUSH_DISKCACHE if volume.geometry.flush => {
            if request.nr_segments == 0 {
                return Ok(Command::Flush);
            }
            carried(request, segments)?;
            check_transfer(true, sector, segments, volume)?;
            Ok(Command::Transfer { write: true, flush: true, sector })
        }
        BLKIF_OP_INDIRECT => decode_indirect(indirect(request), volume),
        BLKIF_OP_DISCARD => {
            let limits = volume.geometry.discard.ok_or(Refused::Unsupported)?;
            decode_discard(discard(request), volume, limits)
        }
        // A barrier orders all requests around it, which a disk with many operations under way can't do: refused, so
        // that the frontend uses flushes.
        _ => Err(Refused::Unsupported),
    }
}

/// The segments in the request itself.
fn carried(request: &BlkifRequest, segments: &mut Vec<Segment>) -> Result<(), Refused> {
    let carried = request.seg.get(..request.nr_segments.into()).ok_or(Refused::Bad)?;
    for segment in carried {
        segments.push(decode_segment(segment)?);
    }
    Ok(())
}

/// Decodes segments of an indirect request, copied from a granted page.
///
/// # Errors
/// When one of them is empty or not inside its page.
pub fn decode_segments(bytes: &[u8], segments: &mut Vec<Segment>) -> Result<(), Refused> {
    for bytes in bytes.chunks_exact(size_of::<BlkifSegment>()) {
        segments.push(decode_segment(&BlkifSegment::read_from_bytes(bytes).map_err(|_| Refused::Bad)?)?);
    }
    Ok(())
}

fn decode_segment(segment: &BlkifSegment) -> Result<Segment, Refused> {
    let BlkifSegment { gref, first_sect, last_sect, .. } = *segment;
    if first_sect > last_sect || last_sect >= SECTORS_PER_PAGE {
        return Err(Refused::Bad);
    }
    let bytes = |sectors: u8| u16::from(sectors) * 512;
    Ok(Segment { gref, offset: bytes(first_sect), bytes: bytes(last_sect - first_sect + 1) })
}

/// Checks that a transfer has data, whole sectors of the disk, all of them on the volume.
///
/// # Errors
/// When it hasn't.
pub fn check_transfer(write: bool, sector: u64, segments: &[Segment], volume: &Volume) -> Result<(), Refused> {
    let bytes: u64 = segments.iter().map(|segment| u64::from(segment.bytes)).sum();
    // A piece that ends inside a sector would be refused by some disks, and cut by others.
    let unit = volume.geometry.sector_bytes;
    let whole = segments.iter().all(|segment| u32::from(segment.bytes).is_multiple_of(unit));
    if (write && volume.geometry.read_only) || segments.is_empty() || !whole {
        return Err(Refused::Bad);
    }
    check_range(sector, bytes / u64::from(SECTOR_BYTES), volume)
}

fn check_range(sector: u64, sectors: u64, volume: &Volume) -> Result<(), Refused> {
    let unit = u64::from(volume.geometry.sector_bytes / SECTOR_BYTES);
    let inside = sector.checked_add(sectors).is_some_and(|end| end <= volume.geometry.sectors);
    if inside && sectors > 0 && sector.is_multiple_of(unit) && sectors.is_multiple_of(unit) {
        Ok(())
    } else {
        Err(Refused::Bad)
    }
}

fn decode_indirect(request: &BlkifRequestIndirect, volume: &Volume) -> Result<Command, Refused> {
    let write = match request.indirect_op {
        BLKIF_OP_READ => false,
        BLKIF_OP_WRITE => true,
        _ => return Err(Refused::Unsupported),
    };
    let count = usize::from(request.nr_segments);
    if count == 0 || count > volume.max_segments() {
        return Err(Refused::Bad);
    }
    Ok(Command::Indirect { write, sector: request.sector_number, count, page: request.indirect_grefs[0] })
}

fn decode_discard(request: &BlkifRequestDiscard, volume: &Volume, limits: DiscardLimits) -> Result<Command, Refused> {
    if request.flag & BLKIF_DISCARD_SECURE != 0 {
        return Err(Refused::Unsupported);
    }
    check_range(request.sector_number, request.nr_sectors, volume)?;
    if volume.geometry.read_only {
        return Err(Refused::Bad);
    }
    let unit = volume.geometry.sector_bytes / SECTOR_BYTES;
    let most = limits.max_sectors - limits.max_sectors % unit;
    if most == 0 {
        return Err(Refused::Unsupported);
    }
    // The protocol can't tell a frontend how much may be discarded at once: Linux asks for up to 4 GiB.
    Ok(Command::Discard { sector: request.sector_number, sectors: request.nr_sectors, most })
}

/// The same slot as a request of another kind, which is shorter.
fn view<T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable>(request: &BlkifRequest) -> &T {
    T::ref_from_prefix(request.as_bytes()).map_or_else(|_| unreachable!("it fits"), |(view, _)| view)
}

fn indirect(request: &BlkifRequest) -> &BlkifRequestIndirect {
    view(request)
}

fn discard(request: &BlkifRequest) -> &BlkifRequestDiscard {
    view(request)
}
