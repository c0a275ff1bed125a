//! Our own page tables: made while the boot loader's are in force, loaded once they are complete.

use core::ops::Range;

use spin::Once;
use x86_64::registers::control::{Cr4, Cr4Flags, Efer, EferFlags};

use super::layout::{DIRECT_MAP, FIRST_SLOT, SLOTS};
use super::pool::Pool;
use super::table::{Level, Tables};
use super::{MapError, PageFlags, blocks, direct_map, image, metadata, tlb, translate, zero_page};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::arch::cpu_features::{self, Features};
use crate::machine::{FrameRange, MemoryMap, Ranges};
use crate::mm::frame::FrameTable;

/// Rights of RAM in the direct map.
const RAM: PageFlags =
    PageFlags::WRITABLE.union(PageFlags::NO_EXECUTE).union(PageFlags::GLOBAL).union(PageFlags::DIRTY);
/// Rights of the image's code and constants there.
const IMAGE: PageFlags = PageFlags::NO_EXECUTE.union(PageFlags::GLOBAL);

/// The L4 table that has no guest, and the hypervisor's entries in it.
struct Root {
    table: Mfn,
    slots: [u64; SLOTS],
}

static ROOT: Once<Root> = Once::new();

fn root() -> &'static Root {
    ROOT.get().expect("our own page tables are in place")
}

/// The hypervisor's entries, slots 256 to 271, for every L4 table. They never change after boot.
pub fn hypervisor_slots() -> [u64; SLOTS] {
    root().slots
}

/// The L4 table with nothing but the hypervisor in it; for CPUs without a guest.
pub fn idle_root() -> Mfn {
    root().table
}

/// Makes the page tables: image, direct map, frame table, machine-to-physical table, CPU blocks, and `keep`, which
/// stays mapped where the boot loader mapped it. Takes the frames for all that from `map.free`.
///
/// # Safety
/// The boot loader's page tables are in force, with its map of all memory in the direct map's place; what is free in
/// `map` is RAM that nothing uses. Called once.
pub(in crate::arch) unsafe fn build(map: &mut MemoryMap, keep: Range<u64>, cpus: u32) -> Result<(), MapError> {
    let mut pool = Pool::new(&mut map.free);
    // SAFETY: the frames are fresh from the pool; each mapping has its place in the address map to itself; the image
    // gets rights by section, and its constant parts get none to write in the direct map either.
    unsafe {
        let tables = empty_hierarchy(&mut pool)?;
        let constant = map_image(tables, &mut pool)?;
        copy_mappings(tables, keep, &mut pool)?;
        map_ram(tables, &map.ram, &constant, &mut pool)?;
        metadata::map(tables, &map.ram, &mut pool)?;
        blocks::map_all(tables, cpus, &mut || pool.take())?;
        let slots = *direct_map(tables.root.base()).cast::<[u64; SLOTS]>().byte_add(FIRST_SLOT * 8);
        ROOT.call_once(|| Root { table: tables.root, slots });
    }
    Ok(())
}

/// Loads the page tables that [`build`] made, and returns the frame table in them.
///
/// # Safety
/// Called once, on the boot CPU, with the same `ram` as [`build`]; the stack is in what was kept, and nothing but it
/// and the image is used of what the boot loader mapped outside the direct map.
pub(in crate::arch) unsafe fn switch(ram: &Ranges) -> FrameTable<'static> {
    // SAFETY: image, direct map and stack are mapped as before, at the same addresses.
    unsafe {
        Efer::update(|efer| *efer |= EferFlags::NO_EXECUTE_ENABLE);
        tlb::load_root(idle_root());
        Cr4::update(|cr4| *cr4 |= Cr4Flags::PAGE_GLOBAL);
        metadata::frame_table(ram)
    }
}

/// An L4 table whose hypervisor slots all have an L3 table, so that they never change again.
///
/// # Safety
/// The pool's frames are unused RAM in the direct map.
unsafe fn empty_hierarchy(pool: &mut Pool<'_>) -> Result<Tables, MapError> {
    let mut fresh = || {
        let frame = pool.take().ok_or(MapError::OutOfFrames)?;
        // SAFETY: the pool's frames are unused RAM in the direct map, as the caller promises.
        unsafe { zero_page(frame) };
        Ok(frame)
    };
    let root = fresh()?;
    for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
        let mut rights = PageFlags::PRESENT | PageFlags::WRITABLE | PageFlags::ACCESSED;
        // Guests read the machine-to-physical table in the first slot. Its pages decide on writing.
        rights.set(PageFlags::USER_ACCESSIBLE, slot == FIRST_SLOT);
        // SAFETY: the table is a fresh frame with 512 entries.
        unsafe { direct_map(root.base()).cast::<u64>().add(slot).write(fresh()?.base().0 | rights.bits()) };
    }
    Ok(Tables { root })
}

/// Maps the image with each section's rights; returns the frames of code and constants.
///
/// # Safety
/// As for [`build`].
unsafe fn map_image(tables: Tables, pool: &mut Pool<'_>) -> Result<Ranges, MapError> {
    let mut constant = Ranges::new();
    for section in image::sections() {
        for address in section.range.step_by(PAGE_SIZE) {
            let frame = translate(address).expect("the boot loader has mapped the image");
            if !section.flags.contains(PageFlags::WRITABLE) {
                constant.add(FrameRange::new(frame, 1));
            }
            // SAFETY: nobody else edits the new tables, and the pool's frames are unused RAM (`build`'s conditions); the
            // image's pages get the rights of their section.
            unsafe { tables.map(address, frame, Level::Page, section.flags, &mut || pool.take())? };
        }
    }
    Ok(constant)
}

/// Maps the pages of `range` as data, where they are mapped now.
///
/// # Safety
/// As for [`build`].
unsafe fn copy_mappings(tables: Tables, range: Range<u64>, pool: &mut Pool<'_>) -> Result<(), MapError> {
    for address in range.step_by(PAGE_SIZE) {
        let frame = translate(address).expect("what is to be kept is mapped");
        // SAFETY: nobody else edits the new tables, and the pool's frames are unused RAM (`build`'s conditions); the page
        // stays what it is in the boot loader's tables.
        unsafe { tables.map(address, frame, Level::Page, RAM, &mut || pool.take())? };
    }
    Ok(())
}

/// Makes the direct map, in the largest pages that fit; frames in `constant` are read-only.
///
/// # Safety
/// As for [`build`].
unsafe fn map_ram(tables: Tables, ram: &Ranges, constant: &Ranges, pool: &mut Pool<'_>) -> Result<(), MapError> {
    let largest = if cpu_features::get().contains(Features::HUGE_PAGES) { Level::Huge } else { Level::Large };
    for range in ram.iter() {
        let mut mfn = range.start;
        while mfn < range.end {
            let fits = |level: Level| {
                let page = FrameRange::new(mfn, level.frames());
                level <= largest
                    && mfn.0.is_multiple_of(level.frames())
                    && page.end <= range.end
                    && constant.iter().all(|part| part.intersection(page).is_empty())
            };
            let level = [Level::Huge, Level::Large].into_iter().find(|&level| fits(level)).unwrap_or(Level::Page);
            let flags = if constant.contains(mfn) { IMAGE } else { RAM };
            // SAFETY: nobody else edits the new tables, and the pool's frames are unused RAM (`build`'s conditions); what
            // is constant gets no right to write.
            unsafe { tables.map(DIRECT_MAP + mfn.base().0, mfn, level, flags, &mut || pool.take())? };
            mfn = mfn.offset(level.frames());
        }
    }
    Ok(())
}
