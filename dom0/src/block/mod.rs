//! The block back end: disks shared with other domains. Header: `io/blkif.h`.
//!
//! Data is never copied, and never mapped here: the disk reads and writes the frontend's pages, which grant mappings hold in
//! place meanwhile.
//!
//! | file | what |
//! |---|---|
//! | `disk` | what a disk is, whatever its driver |
//! | `request` | requests decoded and checked |
//! | `job` | one request under way |
//! | `queue` | one ring: requests to operations to responses |
//! | `vbd` | a virtual disk: negotiation with its frontend, its queues |
//! | `hub` | all disks and all virtual disks |
//! | `partitions`, `volumes` | partition tables; disks and partitions by name |
//! | `toolstack` | what is written for the disks of a new domain |
//! | `service`, `live` | the back end as a service, with hypercalls |
//! | `virtio` | virtio-blk |
//! | `platform` | grants and event channels, as a seam |

mod disk;
mod hub;
mod job;
#[cfg(target_os = "none")]
mod live;
pub mod partitions;
mod platform;
mod queue;
mod request;
#[cfg(target_os = "none")]
mod service;
#[cfg(test)]
mod tests;
pub mod toolstack;
mod vbd;
pub mod virtio;
mod volumes;

pub use disk::{Chunk, DiscardLimits, Disk, Failed, Full, Geometry, Operation, SECTOR_BYTES};
pub use hub::Hub;
pub use partitions::Partition;
pub use platform::{Access, MAX_PIECES, Mapped, Piece, Platform};
pub use request::Volume;
#[cfg(target_os = "none")]
pub use service::{Error, start};
pub use vbd::Fault;
pub use volumes::{Volumes, is_given_away};
