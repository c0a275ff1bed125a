//! A CPU's shadow root ([`crate::mm::shadow`]): what CR3 names while a guest runs on a CPU with Meltdown, where ring 3
//! reads what is mapped, whoever may use it.
//!
//! Of the hypervisor it maps what the CPU needs to get from the guest to the hypervisor's own tables and back, at the
//! same addresses: entry code, the IDT, and some pages of this CPU's block ([`percpu::is_needed_for_entry`]). In these is
//! nothing of another guest's. The tables for that are this CPU's own.

use super::direct::fill;
use super::table::{Level, Tables, take_frame};
use super::{MapError, PageFlags, blocks, image, tlb, to_usize, zero_page};
use crate::addr::{CpuId, GuestVa, MachineAddr, Mfn, PAGE_SIZE};
use crate::arch::descriptors;
use crate::arch::guest_frames;
use crate::arch::percpu::{self, BLOCK_PAGES, CpuTop, IST_TOP_PAGES};
use crate::mm::flush::Stamp;
use crate::mm::shadow::{self, Source};

/// Makes the tables for the running CPU, whose block and descriptor tables are complete.
pub fn build(cpu: CpuId) -> Result<Mfn, MapError> {
    let root = take_frame().ok_or(MapError::OutOfFrames)?;
    // SAFETY: the frame is fresh.
    unsafe { zero_page(root) };
    let (real, tables) = (Tables { root: tlb::root() }, Tables { root });
    let block = blocks::base(cpu);
    let pages = (0..BLOCK_PAGES).filter(|&page| percpu::is_needed_for_entry(page));
    let block_pages = pages.map(|page| block + (page * PAGE_SIZE) as u64);
    for address in image::entry_code().step_by(PAGE_SIZE).chain([descriptors::idt()]).chain(block_pages) {
        // Pages of the LDT are shown when there are any.
        let Some((_, entry, 1)) = real.leaf(address) else { continue };
        let flags = PageFlags::from_bits_truncate(entry) - PageFlags::GLOBAL;
        let mfn = real.translate(address).ok_or(MapError::OutOfFrames)?;
        // SAFETY: nobody else knows the tables; the frames from the source are fresh; the page has the rights that it has
        // at this address anyway.
        unsafe { tables.map(address, mfn, Level::Page, flags, &mut take_frame)? };
    }
    Ok(root)
}

/// Makes this CPU's shadow root a copy of the root in CR3, unless it is. `flushed`: when this CPU has flushed last.
pub fn renew(top: &CpuTop, flushed: Stamp) {
    let source = Source { root: tlb::root(), flushed };
    if shadow::renew(&guest_frames::Tables, shadow_of(top), top.source.get(), source) {
        top.source.set(source);
        top.root.set(source.root.base().0);
    }
}

/// Shows in this CPU's shadow root what its own tables show at an address. Whether that was something else; so far for
/// guest addresses only.
pub extern "C" fn follow(address: u64) -> bool {
    let top = percpu::this();
    let (root, shadow) = (tlb::root(), shadow_of(top));
    if shadow == Mfn(0) {
        return false;
    }
    if let Some(address) = GuestVa::new(address) {
        // A copy of another root is renewed anyway.
        return top.source.get().root == root && shadow::follow(&guest_frames::Tables, shadow, root, address);
    }
    let page = address.checked_sub(blocks::base(percpu::cpu())).map(|offset| to_usize(offset) / PAGE_SIZE);
    if page.is_some_and(percpu::is_guests) {
        let slot = |root| Tables { root }.page_slot(address).expect("all pages of a block share one L1 table");
        let (from, to) = (slot(root), slot(shadow));
        // SAFETY: both are entries for this CPU's own page. The shadow's is not in use, and what the CPU remembers of it
        // goes when it is loaded.
        unsafe { to.write_volatile(from.read_volatile() & !PageFlags::GLOBAL.bits()) };
    }
    false
}

/// Clears what interrupts of another guest, or of the hypervisor, have left where a guest could read it.
#[cold]
pub fn clear_interrupt_stacks() {
    let block = blocks::base(percpu::cpu());
    for page in IST_TOP_PAGES {
        let start = block + ((page - 1) * PAGE_SIZE) as u64;
        // SAFETY: the page is this CPU's, part of a stack on which nothing is: what interrupted a guest has moved to the
        // main stack, and what interrupted us has returned.
        unsafe { fill(start as *mut u64, 0, PAGE_SIZE / 8) };
    }
}

/// The L4 table.
fn shadow_of(top: &CpuTop) -> Mfn {
    MachineAddr(top.shadow.get()).frame()
}
