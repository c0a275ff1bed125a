//! The block device protocol. Header: `io/blkif.h`.
//!
//! A slot is [`BLKIF_SLOT_BYTES`]. Sectors are 512 bytes, whatever the disk's own sector size.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Reads sectors: [`BlkifRequest`].
pub const BLKIF_OP_READ: u8 = 0;
/// Writes sectors: [`BlkifRequest`].
pub const BLKIF_OP_WRITE: u8 = 1;
/// Writes sectors, after all earlier requests and before all later ones: [`BlkifRequest`].
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// Makes completed writes durable; may carry segments to write too: [`BlkifRequest`].
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// Says that sectors' contents no longer matter: [`BlkifRequestDiscard`].
pub const BLKIF_OP_DISCARD: u8 = 5;
/// A read or write whose segments are in granted pages: [`BlkifRequestIndirect`].
pub const BLKIF_OP_INDIRECT: u8 = 6;

/// Segments in a [`BlkifRequest`].
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of segments in a [`BlkifRequestIndirect`].
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Bytes in a slot of the ring.
pub const BLKIF_SLOT_BYTES: usize = 112;
/// In [`BlkifRequestDiscard::flag`]: the contents must not be recoverable.
pub const BLKIF_DISCARD_SECURE: u8 = 1 << 0;

/// In [`BlkifResponse::status`]: done.
pub const BLKIF_RSP_OKAY: i16 = 0;
/// In [`BlkifResponse::status`]: failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// In [`BlkifResponse::status`]: the operation is not supported.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;

bitflags! {
    /// Value of the backend's node `info`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VdiskFlags: u32 {
        /// A CD-ROM.
        const CDROM = 1 << 0;
        /// The medium can be removed.
        const REMOVABLE = 1 << 1;
        /// Not writable.
        const READONLY = 1 << 2;
    }
}

/// A part of one granted page: `struct blkif_request_segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlkifSegment {
    /// Grant reference of the page.
    pub gref: u32,
    /// The first 512-byte sector of the page to use, 0 to 7.
    pub first_sect: u8,
    /// The last 512-byte sector of the page to use, 0 to 7 and not less than the first.
    pub last_sect: u8,
    /// Padding.
    pub _pad: u16,
}
layout!(BlkifSegment, 8);

/// A read, write or flush: `struct blkif_request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlkifRequest {
    /// A `BLKIF_OP_*`.
    pub operation: u8,
    /// Segments in use.
    pub nr_segments: u8,
    /// The virtual device.
    pub handle: u16,
    /// Padding.
    pub _pad: u32,
    /// Chosen by the frontend and echoed.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// Where the data is.
    pub seg: [BlkifSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
}
layout!(BlkifRequest, 112, id @ 8, sector_number @ 16, seg @ 24);

/// A discard, in the slot of a request: `struct blkif_request_discard`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlkifRequestDiscard {
    /// [`BLKIF_OP_DISCARD`].
    pub operation: u8,
    /// [`BLKIF_DISCARD_SECURE`] or 0.
    pub flag: u8,
    /// The virtual device.
    pub handle: u16,
    /// Padding.
    pub _pad: u32,
    /// Chosen by the frontend and echoed.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// Sectors.
    pub nr_sectors: u64,
}
layout!(BlkifRequestDiscard, 32, id @ 8, nr_sectors @ 24);

/// A read or write of many segments, in the slot of a request: `struct blkif_request_indirect`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlkifRequestIndirect {
    /// [`BLKIF_OP_INDIRECT`].
    pub operation: u8,
    /// [`BLKIF_OP_READ`] or [`BLKIF_OP_WRITE`].
    pub indirect_op: u8,
    /// Segments in use.
    pub nr_segments: u16,
    /// Padding.
    pub _pad0: u32,
    /// Chosen by the frontend and echoed.
    pub id: u64,
    /// The first sector.
    pub sector_number: u64,
    /// The virtual device.
    pub handle: u16,
    /// Padding.
    pub _pad1: u16,
    /// Grant references of pages, each with 512 [`BlkifSegment`]s.
    pub indirect_grefs: [u32; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
    /// Padding.
    pub _pad2: u32,
}
layout!(BlkifRequestIndirect, 64, id @ 8, sector_number @ 16, handle @ 24, indirect_grefs @ 28);

/// The outcome of a request: `struct blkif_response`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BlkifResponse {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Padding.
    pub _pad0: u8,
    /// A `BLKIF_RSP_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: u32,
}
layout!(BlkifResponse, 16, operation @ 8, status @ 10);
