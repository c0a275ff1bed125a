//! virtio-blk. Virtio 1.2, section 5.2.
//!
//! The queue is our own, not that of the crate `virtio-drivers`: that one takes slices, so what a disk works on would have
//! to be mapped here, and to be memory that Rust may believe in. A guest's page is neither.
//!
//! | file | what |
//! |---|---|
//! | `queue` | a split queue whose every entry is an indirect table; pure |
//! | `requests` | the device's requests in such a queue: a [`Disk`](super::Disk); pure |
//! | `device` | the device itself |

#[cfg(target_os = "none")]
mod device;
pub mod queue;
pub mod requests;
#[cfg(test)]
mod tests;

#[cfg(target_os = "none")]
pub use device::{Error, VirtioDisk, functions};
