//! The front end of disks. Header: `io/blkif.h`.
//!
//! The backend is not trusted: what it answers is checked, and one that answers nonsense loses its frontend. It can only
//! reach what is granted to it, which is the ring and the buffers.
//!
//! | file | what |
//! |---|---|
//! | `requests` | requests and responses in a ring; pure |
//! | `details` | what the two ends tell each other through XenStore; pure |
//! | `drive` | a disk with its buffers |

mod details;
#[cfg(target_os = "none")]
mod drive;
mod requests;
#[cfg(test)]
mod tests;

pub use details::{Details, Offer};
#[cfg(target_os = "none")]
pub use drive::{BUFFER_BYTES, Drive, Error};
pub use requests::{Broken, Done, Failure, Operation, Requests};

/// Bytes in a sector of the protocol.
pub const SECTOR_BYTES: usize = 512;
