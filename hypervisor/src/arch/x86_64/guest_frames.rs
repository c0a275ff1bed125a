//! Contents of frames that domains own, through the direct map.
//!
//! The hypervisor holds no Rust reference into a domain's frame (the shared-info page, all atomics, apart), so writing
//! to one can break nothing but the domain. That a frame is a domain's is checked against the frame table each time.

use super::mm::{direct_map, m2p, zero_page};
use crate::addr::{DomainId, Mfn, PAGE_SIZE, Pfn};
use crate::domain::shared::SharedInfo;
use crate::mm::buddy::FrameAllocator;
use crate::mm::frame::FrameTable;
use crate::mm::ownership;

/// Does some domain own the frame?
fn is_owned(table: &FrameTable<'_>, mfn: Mfn) -> bool {
    table.get(mfn).is_some_and(|frame| frame.owner().is_some())
}

/// Makes `domain` the owner of `count` fresh frames, which it knows as `pfn` and up; zeroes them if they are dirty.
pub fn give(table: &FrameTable<'_>, mfn: Mfn, count: u64, domain: DomainId, pfn: Pfn, dirty: bool) {
    ownership::give(table, mfn, count, domain);
    for n in 0..count {
        if dirty {
            // SAFETY: `give` has checked that the frames are RAM in the frame table and made them the domain's, which
            // doesn't run yet; nothing refers to them.
            unsafe { zero_page(mfn.offset(n)) };
        }
        m2p::set(mfn.offset(n), Pfn(pfn.0 + n));
    }
}

/// Makes a block of a domain that is gone free memory.
pub fn release(table: &FrameTable<'_>, allocator: &mut FrameAllocator, mfn: Mfn, order: u8) {
    for n in 0..1 << order {
        assert!(is_owned(table, mfn.offset(n)), "{mfn:?} is no domain's");
        m2p::clear(mfn.offset(n));
    }
    ownership::take_back(table, allocator, mfn, order);
}

/// Writes bytes to a frame that a domain owns.
///
/// # Panics
/// If no domain owns it or the bytes don't fit in the page: our own mistake.
pub fn write(table: &FrameTable<'_>, mfn: Mfn, offset: usize, bytes: &[u8]) {
    assert!(is_owned(table, mfn) && offset <= PAGE_SIZE && bytes.len() <= PAGE_SIZE - offset);
    // SAFETY: the frame is RAM, mapped in the direct map, and a domain's (see the module's comment); the range was
    // checked to lie in it. A slice of ours never overlaps a domain's frame.
    unsafe {
        let to = direct_map(mfn.base()).add(offset);
        super::mm::copy_bytes(to, bytes);
    }
}

/// Writes a page-table entry of a domain that doesn't run yet.
///
/// # Panics
/// If no domain owns the frame or there is no such entry: our own mistake.
pub fn write_entry(table: &FrameTable<'_>, mfn: Mfn, index: usize, entry: u64) {
    assert!(is_owned(table, mfn) && index < 512);
    // SAFETY: as for `write`; the entry is aligned.
    unsafe { direct_map(mfn.base()).cast::<u64>().add(index).write_volatile(entry) };
}

/// The shared-info page in a fresh, zeroed frame that stays the hypervisor's until the domain is gone.
///
/// # Panics
/// If a domain owns the frame.
pub fn shared_info(table: &FrameTable<'_>, mfn: Mfn) -> &'static SharedInfo {
    assert!(table.get(mfn).is_some() && !is_owned(table, mfn));
    // SAFETY: the frame is RAM in use by the hypervisor, mapped for good in the direct map, and page-aligned. All
    // fields are atomics for which any bits are valid. It is given back only after the domain's last vCPU.
    unsafe {
        zero_page(mfn);
        &*direct_map(mfn.base()).cast::<SharedInfo>()
    }
}
