//! What the back end needs of grant tables and event channels, as a seam: the live ones, or a test's.

use alloc::vec::Vec;
use guest_kernel::ring::SharedMemory;

/// A page that a disk is to read or write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Grant reference.
    pub gref: u32,
    /// The disk writes the page.
    pub write: bool,
}

/// A granted page that stays where it is until it is [unmapped](Platform::unmap).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapped {
    /// The hypervisor's name for the mapping.
    pub handle: u32,
    /// Machine address of the page.
    pub address: u64,
}

/// The beginning of a granted page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Grant reference.
    pub gref: u32,
    /// How much to copy, a page at most.
    pub bytes: usize,
}

/// Most pieces in a [`Platform::copy`].
pub const MAX_PIECES: usize = 64;

/// Other domains' granted pages and event channels. What takes a list is one hypercall, however long the list is.
pub trait Platform {
    /// Pages of a ring. The domain can take them back when this is dropped.
    type Ring: SharedMemory;
    /// An event channel to a domain, closed when this is dropped.
    type Port;

    /// Maps the pages of a ring. `None` when any of them is refused.
    fn ring(&mut self, domain: u16, pages: &[u32]) -> Option<Self::Ring>;

    /// Connects to a port that the domain allocated for us.
    fn port(&mut self, domain: u16, port: u32) -> Option<Self::Port>;

    /// Whether an event came since the last time it was asked.
    fn rang(&mut self, port: &Self::Port) -> bool;

    /// Sends an event.
    fn notify(&mut self, port: &Self::Port);

    /// Holds pages for a disk. Appends an item to `mapped` for each, `None` when it is refused.
    fn map(&mut self, domain: u16, accesses: &[Access], mapped: &mut Vec<Option<Mapped>>);

    /// Lets go of pages.
    fn unmap(&mut self, mapped: &[Mapped]);

    /// Copies the beginnings of pages, [`MAX_PIECES`] at most, to be seen by [`piece`](Self::piece).
    fn copy(&mut self, domain: u16, pieces: &[Piece]);

    /// What was copied; `None` when it was refused.
    fn piece(&self, index: usize) -> Option<&[u8]>;
}
