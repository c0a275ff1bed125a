//! Contents of frames that domains own, through the direct map.
//!
//! The hypervisor holds no Rust reference into a domain's frame (but for those to atomics: the shared-info page, event
//! flags), so writing to one can break nothing but the domain. These functions are safe only because `mm`, `grant` and
//! `event` are trusted to name frames that they hold, or that the frame table says are a domain's; this is the one place
//! where safe code carries a memory-safety duty.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::mm::{self, direct_map, hypervisor_slots, m2p, zero_page};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::domain::shared::{SharedInfo, VcpuInfo};
use crate::event::fifo;
use crate::grant::GrantMemory;
use crate::mm::frame::FrameTable;
use crate::mm::m2p::MachineToPhys;
use crate::mm::operation::{PageTableMem, ZEROS};
use mm::layout::FIRST_SLOT;

/// Does some domain own the frame?
fn is_owned(table: &FrameTable<'_>, mfn: Mfn) -> bool {
    table.get(mfn).is_some_and(|frame| frame.owner().is_some())
}

/// The contents of all frames, and the machine-to-phys table.
#[derive(Clone, Copy, Debug)]
pub struct Tables;

impl Tables {
    #[inline]
    fn entry(page: Mfn, index: usize) -> &'static AtomicU64 {
        assert!(index < Tables::ENTRIES);
        // SAFETY: the frame is RAM in use (the seam's contract), mapped in the direct map for as long as the machine
        // runs; the index is in the page, and any bits are a valid word. Guests and the CPU's page walk change the
        // same words at any time, which atomics allow.
        unsafe { &*direct_map(page.base()).cast::<AtomicU64>().add(index) }
    }
}

/// A word of a page of FIFO delivery, as [`EventMemory`](fifo::EventMemory) has it.
#[inline]
pub fn event_word(mfn: Mfn, index: usize) -> &'static AtomicU32 {
    assert!(index < fifo::WORDS);
    // SAFETY: as for `Tables::entry`; the frame is held as writable by the guest (the seam's contract).
    unsafe { &*direct_map(mfn.base()).cast::<AtomicU32>().add(index) }
}

impl PageTableMem for Tables {
    #[inline]
    fn read(&self, page: Mfn, index: usize) -> u64 {
        Tables::entry(page, index).load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn are_zero(&self, page: Mfn, first: usize) -> bool {
        assert!(first <= Tables::ENTRIES - ZEROS);
        let from: *const AtomicU64 = Tables::entry(page, first);
        let set: u64;
        // One instruction for each entry; the compiler would load each into a register first.
        // SAFETY: reads eight words of the page; see `entry`. Whoever changes them meanwhile does so with atomic stores.
        unsafe {
            asm!(
                "mov {set}, [{from}]",
                "or {set}, [{from} + 8]",
                "or {set}, [{from} + 16]",
                "or {set}, [{from} + 24]",
                "or {set}, [{from} + 32]",
                "or {set}, [{from} + 40]",
                "or {set}, [{from} + 48]",
                "or {set}, [{from} + 56]",
                from = in(reg) from,
                set = out(reg) set,
                options(nostack, readonly),
            );
        }
        set == 0
    }

    #[inline]
    fn write(&self, page: Mfn, index: usize, value: u64) {
        Tables::entry(page, index).store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange(&self, page: Mfn, index: usize, old: u64, new: u64) -> Result<(), u64> {
        Tables::entry(page, index).compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).map(|_| ())
    }

    fn copy_entries(&self, to: Mfn, from: Mfn, entries: Range<usize>) {
        assert!(entries.start <= entries.end && entries.end <= Tables::ENTRIES);
        // SAFETY: both frames are RAM in use (the seam's contract), mapped in the direct map, and the entries lie in them. What
        // is in tables is changed by aligned words, and copied by such.
        unsafe {
            let at = |page: Mfn| direct_map(page.base()).add(8 * entries.start);
            mm::copy_between(at(to), at(from), 8 * entries.len());
        }
    }

    fn write_hypervisor_slots(&self, l4: Mfn) {
        for (index, entry) in (FIRST_SLOT..).zip(hypervisor_slots()) {
            self.write(l4, index, entry);
        }
    }

    fn show_machine_to_phys(&self, l4: Mfn, visible: bool) {
        let [entry, ..] = hypervisor_slots();
        self.write(l4, FIRST_SLOT, if visible { entry } else { 0 });
    }
}

impl GrantMemory for Tables {
    #[inline]
    fn clear_bits(&self, page: Mfn, index: usize, bits: u64) {
        Tables::entry(page, index).fetch_and(!bits, Ordering::SeqCst);
    }

    fn copy(&self, to: Mfn, to_offset: usize, from: Mfn, from_offset: usize, len: usize) {
        assert!(to_offset <= PAGE_SIZE && len <= PAGE_SIZE - to_offset);
        assert!(from_offset <= PAGE_SIZE && len <= PAGE_SIZE - from_offset);
        // SAFETY: both frames are RAM in use (the seam's contract), mapped in the direct map, and the ranges lie in them. The
        // caller holds `to` as writable by a guest, so no Rust object and no table is in it.
        unsafe {
            mm::copy_between(direct_map(to.base()).add(to_offset), direct_map(from.base()).add(from_offset), len)
        };
    }
}

impl MachineToPhys for Tables {
    #[inline]
    fn store(&self, mfn: Mfn, entry: u64) {
        m2p::M2p.store(mfn, entry);
    }
}

/// Fills a frame with zeros.
///
/// # Panics
/// If the frame is no RAM: our own mistake.
pub fn clear(table: &FrameTable<'_>, mfn: Mfn) {
    assert!(!table.is_device(mfn));
    // SAFETY: the frame is RAM; the callers have it fresh from the allocator, or hold it as a page that the guest may
    // write itself. No Rust reference names it.
    unsafe { zero_page(mfn) };
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
    assert!(is_owned(table, mfn));
    Tables.write(mfn, index, entry);
}

/// Event flags of a vCPU in a frame of its domain, which holds the frame as writable until no sender can reach them.
///
/// # Panics
/// If no domain owns the frame, or the place is not aligned or not in the page: our own mistake.
pub fn vcpu_info(table: &FrameTable<'_>, mfn: Mfn, offset: usize) -> &'static VcpuInfo {
    assert!(is_owned(table, mfn) && offset.is_multiple_of(align_of::<VcpuInfo>()));
    assert!(offset <= PAGE_SIZE - size_of::<VcpuInfo>());
    // SAFETY: the frame is RAM, mapped for good in the direct map, the place aligned and in the page. All fields are atomics
    // for which any bits are valid. The domain's hold on the frame outlives every use (`system::remove`).
    unsafe { &*direct_map(mfn.base()).add(offset).cast::<VcpuInfo>() }
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
