//! The numbers of a frame: pseudo-physical, machine, and the address of its bytes. The walk of the kernel's own tables.

use super::direct::{self, DIRECT_MAP};
use crate::paging::{self, Mfn, PAGE_SIZE, Pfn};
use crate::probe;
use crate::start::{VIRT_BASE, start_info};
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::memory::MACH2PHYS_VIRT_START;

static MAPPED_END: AtomicU64 = AtomicU64::new(0);

/// The first address behind the builder's mapping of image, boot structures and slack.
pub fn mapped_end() -> u64 {
    MAPPED_END.load(Ordering::Relaxed)
}

/// Notes where the builder's mapping ends.
pub(super) fn set_mapped_end(address: u64) {
    MAPPED_END.store(address, Ordering::Relaxed);
}

/// The machine frame of pseudo-physical frame `pfn`, from the builder's table; `None` beyond the domain's memory.
pub fn machine_frame(pfn: u64) -> Option<u64> {
    let info = start_info();
    if pfn >= info.nr_pages {
        return None;
    }
    // SAFETY: the builder mapped `nr_pages` entries from here, and nothing unmaps them.
    Some(unsafe { (info.mfn_list as *const u64).add(usize::try_from(pfn).ok()?).read() })
}

/// The machine frame behind an address of the builder's mapping.
pub fn machine_frame_at(address: u64) -> Option<u64> {
    machine_frame(address.checked_sub(VIRT_BASE)? / PAGE_SIZE)
}

/// The machine frame behind any address that the kernel has mapped.
pub fn machine_frame_behind(address: u64) -> Option<u64> {
    paging::target(entry(address)?).map(|mfn| mfn.0)
}

/// What the machine-to-physical table says of machine frame `mfn`; `None` if that part of the table isn't readable.
pub fn pseudo_physical_frame(mfn: u64) -> Option<u64> {
    probe::read(MACH2PHYS_VIRT_START.checked_add(mfn.checked_mul(8)?)?).ok()
}

/// The address of machine frame `mfn`, if it is the domain's. Before the memory is set up, only frames of the builder's
/// mapping are there.
pub fn address_of_frame(mfn: u64) -> Option<u64> {
    let pfn = pseudo_physical_frame(mfn)?;
    // The table holds other domains' numbers too: only a frame that our own table agrees on is ours.
    (machine_frame(pfn)? == mfn).then(|| address(Pfn(pfn)))
}

/// The domain's level 1 page-table entry for `address`; `None` if a table on the way is missing.
pub fn entry(address: u64) -> Option<u64> {
    let root = Mfn(machine_frame_at(start_info().pt_base)?);
    let read = |table: Mfn, index: usize| probe::read(address_of_frame(table.0)? + 8 * index as u64).ok();
    read(paging::leaf_table(root, 4, address, read)?, paging::index(address, 1))
}

/// The machine frame of one of the domain's frames.
///
/// # Panics
/// If it is none.
pub(super) fn mfn(pfn: Pfn) -> Mfn {
    Mfn(machine_frame(pfn.0).expect("a frame beyond the domain's memory"))
}

/// The domain's frame that is machine frame `mfn`, which must be its own: the number came from an entry that it made.
pub(super) fn pfn(mfn: Mfn) -> Pfn {
    // SAFETY: the hypervisor maps the table for all of RAM, and keeps it right for frames that have an owner.
    Pfn(unsafe { ((MACH2PHYS_VIRT_START + 8 * mfn.0) as *const u64).read_volatile() })
}

/// The one address of a frame's bytes.
pub(super) fn address(pfn: Pfn) -> u64 {
    let base = if direct::covers(pfn) { DIRECT_MAP } else { VIRT_BASE };
    base + pfn.0 * PAGE_SIZE
}
