//! Editing page tables of the hypervisor's own part of the address space.
//!
//! Tables are reached through the direct map. Guests' tables are never edited here: that is `PageTableMem`.

use arrayvec::ArrayVec;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::{direct_map, tlb, to_usize, zero_page};
use crate::addr::{HYPERVISOR_END, HYPERVISOR_START, Mfn, PAGE_SHIFT};
use crate::arch::acpi::MAX_CPUS;

/// Why a page of hypervisor memory could not be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// There is no frame for a page table.
    OutOfFrames,
    /// A page is mapped there already.
    InUse,
    /// The range set aside for this kind of mapping is used up.
    OutOfAddresses,
}

/// The address bits of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bit 12 of a large page's entry is its PAT bit, which we never set, so [`ADDRESS`] serves all levels.
const ENTRIES: u64 = 512;

/// A page-table hierarchy by its L4 table.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub root: Mfn,
}

/// Size of a page by the level of the table whose entry maps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub(super) enum Level {
    /// 4 KiB
    Page = 1,
    /// 2 MiB
    Large = 2,
    /// 1 GiB
    Huge = 3,
}

impl Level {
    /// Frames that an entry of this level maps.
    pub const fn frames(self) -> u64 {
        1 << (9 * (self as u32 - 1))
    }
}

fn index(address: u64, level: u32) -> u64 {
    (address >> (PAGE_SHIFT + 9 * (level - 1))) % ENTRIES
}

/// Where entry `index` of the table in `table` lies.
fn slot(table: Mfn, index: u64) -> *mut u64 {
    direct_map(table.base()).cast::<u64>().wrapping_add(to_usize(index))
}

impl Tables {
    /// Makes `address` map `mfn` and what follows it, as one page of the given size.
    ///
    /// Tables on the way are taken from `frames` and are as permissive as `flags` needs; the leaf alone decides.
    ///
    /// # Safety
    /// `self` must be a page-table hierarchy that only this call edits now; frames from `frames` must be unused RAM
    /// in the direct map; the mapping made must not break what other code believes about `mfn` (aliasing, W^X).
    pub unsafe fn map(
        self,
        address: u64,
        mfn: Mfn,
        level: Level,
        flags: Flags,
        frames: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<(), MapError> {
        let table = self.descend(address, level as u32, flags, frames)?;
        let entry = slot(table, index(address, level as u32));
        let size = if level > Level::Page { Flags::HUGE_PAGE } else { Flags::empty() };
        // SAFETY: `entry` lies in a page table of this hierarchy, which only this call edits.
        unsafe {
            if entry.read() != 0 {
                return Err(MapError::InUse);
            }
            entry.write_volatile(mfn.base().0 | (flags | size | Flags::PRESENT | Flags::ACCESSED).bits());
        }
        Ok(())
    }

    /// The table of level `level` for `address`, made if it is missing.
    fn descend(
        self,
        address: u64,
        level: u32,
        flags: Flags,
        frames: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<Mfn, MapError> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = slot(table, index(address, above));
            // SAFETY: as in `map`, which is the only caller that edits.
            let value = unsafe { entry.read() };
            if value & Flags::HUGE_PAGE.bits() != 0 {
                return Err(MapError::InUse);
            }
            table = if value != 0 {
                Mfn((value & ADDRESS) >> PAGE_SHIFT)
            } else {
                let new = frames().ok_or(MapError::OutOfFrames)?;
                let rights = Flags::PRESENT | Flags::ACCESSED | (flags & Flags::USER_ACCESSIBLE) | Flags::WRITABLE;
                // SAFETY: `new` is unused RAM by the contract of `map`.
                unsafe {
                    zero_page(new);
                    entry.write_volatile(new.base().0 | rights.bits());
                }
                new
            };
        }
        Ok(table)
    }

    /// The leaf entry that maps `address`, its level, and where it lies.
    pub fn leaf(self, address: u64) -> Option<(*mut u64, u64, u32)> {
        let mut table = self.root;
        for level in (1..=4).rev() {
            let entry = slot(table, index(address, level));
            // SAFETY: the walk only follows present entries of a live hierarchy, so `entry` lies in a table.
            let value = unsafe { entry.read_volatile() };
            if value & Flags::PRESENT.bits() == 0 {
                return None;
            }
            if level == 1 || value & Flags::HUGE_PAGE.bits() != 0 {
                return Some((entry, value, level));
            }
            table = Mfn((value & ADDRESS) >> PAGE_SHIFT);
        }
        None
    }

    /// Where the L1 entry for `address` lies, if there is an L1 table.
    pub fn page_slot(self, address: u64) -> Option<*mut u64> {
        let mut table = self.root;
        for level in [4, 3, 2] {
            // SAFETY: the walk only follows present entries of a live hierarchy, so the slot lies in a table.
            let value = unsafe { slot(table, index(address, level)).read_volatile() };
            if value & Flags::PRESENT.bits() == 0 || value & Flags::HUGE_PAGE.bits() != 0 {
                return None;
            }
            table = Mfn((value & ADDRESS) >> PAGE_SHIFT);
        }
        Some(slot(table, index(address, 1)))
    }

    /// The frame behind `address`.
    pub fn translate(self, address: u64) -> Option<Mfn> {
        let (_, value, level) = self.leaf(address)?;
        let offset = (address >> PAGE_SHIFT) % (1 << (9 * (level - 1)));
        Some(Mfn(((value & ADDRESS) >> PAGE_SHIFT) + offset))
    }
}

/// The hypervisor's shared mappings after boot: one editor at a time, and frames for tables.
struct Shared {
    source: Option<fn() -> Option<Mfn>>,
    /// Frames taken but not used yet. Every CPU may add one at the same time to one less than a mapping needs.
    reserve: ArrayVec<Mfn, { TABLES_PER_MAPPING + MAX_CPUS }>,
}

/// A mapping needs two tables at most: of level 2 and level 1.
const TABLES_PER_MAPPING: usize = 2;

static SHARED: SpinMutex<Shared> = SpinMutex::new(Shared { source: None, reserve: ArrayVec::new_const() });

/// Names the function that gives frames for page tables and the heap. Called once, when the allocator is in place.
///
/// A frame it returns must be RAM that belongs to the hypervisor from then on. The function is called without any lock
/// of `arch` held, and must not allocate from the heap.
pub fn set_frame_source(source: fn() -> Option<Mfn>) {
    SHARED.lock().source = Some(source);
}

/// A frame from the source.
pub(super) fn take_frame() -> Option<Mfn> {
    let source = SHARED.lock().source;
    source?()
}

/// Locks the shared mappings with enough frames in reserve for one mapping, if there are any to be had.
fn lock_with_reserve() -> SpinMutexGuard<'static, Shared> {
    loop {
        let shared = SHARED.lock();
        let Some(source) = shared.source.filter(|_| shared.reserve.len() < TABLES_PER_MAPPING) else { return shared };
        // The source takes locks of its own, so it is asked with ours released.
        drop(shared);
        let Some(frame) = source() else { return SHARED.lock() };
        SHARED.lock().reserve.push(frame);
    }
}

/// Maps a page of hypervisor memory, seen at once by all CPUs: slots 256 to 271 are shared by all address spaces.
///
/// The mapping is what `flags` say besides `PRESENT`: without `NO_EXECUTE` it is executable, and it should be `GLOBAL`.
///
/// # Safety
/// `address` is page-aligned, in the hypervisor's slots, and set aside for the caller; the mapping must not break what
/// other code believes about `mfn` (aliasing, W^X).
pub unsafe fn map_hypervisor_page(address: u64, mfn: Mfn, flags: Flags) -> Result<(), MapError> {
    debug_assert!((HYPERVISOR_START..HYPERVISOR_END).contains(&address));
    let mut shared = lock_with_reserve();
    let mut frames = || shared.reserve.pop();
    // SAFETY: edits of the hypervisor's slots are serialised by the lock; the rest is the caller's promise.
    unsafe { Tables { root: tlb::root() }.map(address, mfn, Level::Page, flags, &mut frames) }
}

/// The frame behind an address in the current address space.
pub fn translate(address: u64) -> Option<Mfn> {
    Tables { root: tlb::root() }.translate(address)
}
