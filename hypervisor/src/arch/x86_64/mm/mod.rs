//! Memory as the CPU sees it: the address map, our page tables, the heap, TLB flushes, whole-page operations.
//!
//! Mechanism only. What a frame may be used for is decided by [`crate::mm`]; who gets it, by `system`.
//!
//! Invariants kept here:
//! * *W xor X*: no page is writable and executable through any one mapping, and frames of the image's text and
//!   read-only data are read-only through every mapping, the direct map included.
//! * *Only RAM is in the direct map*, so speculative reads through it never reach a device.
//! * *The L3 tables of the hypervisor's slots never change place* after boot, so [`hypervisor_slots`] can be copied
//!   into an L4 table once and stays right.

pub mod blocks;
mod build;
pub mod device;
mod direct;
pub mod heap;
pub mod image;
pub mod layout;
pub mod m2p;
mod metadata;
mod pool;
pub mod shadow;
mod table;
pub mod tlb;

pub use x86_64::structures::paging::PageTableFlags as PageFlags;

pub(super) use build::{build, switch};
pub use build::{hypervisor_slots, idle_root};
pub(super) use direct::to_usize;
pub use direct::{copy_between, copy_bytes, direct_map, frame_bytes, zero_page};
pub use layout::IMAGE_BASE;
pub use metadata::m2p_frames;
pub use table::{MapError, map_hypervisor_page, set_frame_source, translate};

/// The address of this CPU's last page fault.
#[inline]
pub fn fault_address() -> u64 {
    x86_64::registers::control::Cr2::read_raw()
}
