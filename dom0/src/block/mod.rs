//! The block back end: disks shared with other domains. Header: `io/blkif.h`.
//!
//! Data is never copied, and never mapped here: the disk reads and writes the frontend's pages, which grant mappings hold in
//! place meanwhile.
//!
//! | file | what |
//! |---|---|
//! | `disk` | what a disk is, whatever its driver |
//! | `request` | requests decoded and checked |
//! | `queue` | one ring: requests to operations to responses |
//! | `vbd` | a virtual disk: negotiation with its frontend, its queues |
//! | `hub` | all disks and all virtual disks |
//! | `platform` | grants, event channels, XenStore, as seams |

mod disk;
mod hub;
mod platform;
mod queue;
mod request;
#[cfg(test)]
mod tests;
mod vbd;

pub use disk::{Chunk, DiscardLimits, Disk, Failed, Full, Geometry, Operation, SECTOR_BYTES};
pub use hub::Hub;
pub use platform::{Access, MAX_PIECES, Mapped, Piece, Platform, Store};
pub use request::Volume;
pub use vbd::{Fault, State};
