//! What a disk is to those who use it, whatever its driver.

/// Bytes in a sector of the protocol, whatever the disk's own sector size.
pub const SECTOR_BYTES: u32 = 512;

/// The size of a disk, and what it can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Size in sectors of 512 bytes.
    pub sectors: u64,
    /// The smallest unit of a request in bytes: a power of two, at least 512.
    pub sector_bytes: u32,
    /// The unit in bytes that the disk writes without reading first.
    pub physical_sector_bytes: u32,
    /// It can't be written.
    pub read_only: bool,
    /// It has a cache that loses its contents without power, and can be told to write it back.
    pub flush: bool,
    /// It takes discards.
    pub discard: Option<DiscardLimits>,
    /// Most chunks in an operation.
    pub max_chunks: usize,
}

/// What discards a disk takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardLimits {
    /// The unit in bytes.
    pub granularity: u32,
    /// Most sectors of 512 bytes in one operation.
    pub max_sectors: u32,
}

/// A piece of memory in which the disk's data is, or is put: machine memory that nobody gives away before the operation has
/// completed. Nobody needs to have it mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Machine address.
    pub address: u64,
    /// Length, a multiple of 512.
    pub bytes: u32,
}

/// What a disk is to do. Sectors have 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// Reads from `sector` on.
    Read {
        /// The first sector.
        sector: u64,
        /// Where to, [`Geometry::max_chunks`] at most.
        into: &'a [Chunk],
    },
    /// Writes from `sector` on.
    Write {
        /// The first sector.
        sector: u64,
        /// Where from, [`Geometry::max_chunks`] at most.
        from: &'a [Chunk],
    },
    /// Makes durable all writes that have completed.
    Flush,
    /// Forgets the contents of sectors.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many, within [`DiscardLimits`].
        sectors: u32,
    },
}

/// The disk holds as many operations as it can. Some completion makes room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The disk could not do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed;

/// A disk's driver. Operations complete in any order.
pub trait Disk {
    /// Size and features, which don't change.
    fn geometry(&self) -> Geometry;

    /// Gives the disk an operation, which completes with `token`. It may wait for [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`Full`]: nothing happened.
    fn submit(&mut self, token: u64, operation: Operation<'_>) -> Result<(), Full>;

    /// Makes the disk begin with what it was given.
    fn kick(&mut self);

    /// An operation that has completed. A driver that lost its disk completes all of them as failed, when the device has
    /// let go of their memory.
    fn complete(&mut self) -> Option<(u64, Result<(), Failed>)>;
}
