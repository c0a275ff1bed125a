//! Mapping devices' registers: uncached, and never through the direct map.

use core::sync::atomic::{AtomicU64, Ordering};

use super::layout::{DEVICES, DEVICES_END};
use super::{MapError, PageFlags, map_hypervisor_page};
use crate::addr::{MachineAddr, PAGE_SIZE};

static NEXT: AtomicU64 = AtomicU64::new(DEVICES);

/// Maps `len` bytes of registers at `address`, for all CPUs and for good.
pub fn map(address: MachineAddr, len: usize) -> Result<*mut u8, MapError> {
    let offset = address.page_offset();
    let pages = (offset + len).div_ceil(PAGE_SIZE) as u64;
    let start = NEXT.fetch_add(pages * PAGE_SIZE as u64, Ordering::Relaxed);
    if start + pages * PAGE_SIZE as u64 > DEVICES_END {
        return Err(MapError::OutOfAddresses);
    }
    let flags = PageFlags::WRITABLE
        | PageFlags::NO_EXECUTE
        | PageFlags::GLOBAL
        | PageFlags::DIRTY
        | PageFlags::NO_CACHE
        | PageFlags::WRITE_THROUGH;
    for page in 0..pages {
        // SAFETY: the addresses were just taken from the devices' range and are nobody else's. Registers hold no Rust
        // object, so another mapping of them breaks nothing.
        unsafe { map_hypervisor_page(start + page * PAGE_SIZE as u64, address.frame().offset(page), flags)? };
    }
    Ok((start as *mut u8).wrapping_add(offset))
}
