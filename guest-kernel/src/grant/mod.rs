//! Grants: frames that the domain lets others use, and those of others that it uses. Header: `grant_table.h`.
//!
//! Front ends [`grant`] frames and take them back with [`Grant::end`]. Back ends map what they were granted
//! ([`map`], [`map_list`]) or have it copied ([`copy()`]). Everything is set up when it is asked for first.
//!
//! | file | what |
//! |---|---|
//! | `entry` | a grant as a word; pure |
//! | `references` | which references are in use; pure |
//! | `pages` | which pages of the window are in use; pure |
//! | `own` | the domain's own table |
//! | `lent` | granted pages that are given up |
//! | `mapping` | mappings of others' frames, in a window of kernel addresses |
//! | `copying` | copies by the hypervisor |

pub mod entry;
pub mod pages;
pub mod references;

#[cfg(target_os = "none")]
mod copying;
#[cfg(target_os = "none")]
mod lent;
#[cfg(target_os = "none")]
mod mapping;
#[cfg(target_os = "none")]
mod own;

#[cfg(target_os = "none")]
pub use {
    copying::{End, copy, copy_request, copy_requests},
    lent::{give_up, reclaim},
    mapping::{Mapping, map, map_list, unmap_list},
    own::{Grant, grant, table_entry},
};

#[cfg(target_os = "none")]
use {crate::memory, pv_abi::errno::Errno};

/// What may be done with a granted frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It may be read.
    Read,
    /// It may be written as well.
    Write,
}

/// Why something isn't granted, mapped or copied.
#[cfg(target_os = "none")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no memory for tables.
    Memory(memory::Error),
    /// The hypervisor refused the call.
    Refused(Errno),
    /// The hypervisor refused a request of a list: its index, and its status (`GNTST_*`). All others are undone.
    Status(usize, i16),
    /// All references, or all pages of the window, are in use.
    Full,
}

#[cfg(target_os = "none")]
impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

#[cfg(target_os = "none")]
impl From<memory::Error> for Error {
    fn from(error: memory::Error) -> Error {
        Error::Memory(error)
    }
}

/// Addresses for the domain's own table.
#[cfg(target_os = "none")]
const TABLE: u64 = memory::KERNEL_PAGES.end - (2 << 30);

/// Addresses for mappings.
#[cfg(target_os = "none")]
const WINDOW: u64 = TABLE + (1 << 21);
