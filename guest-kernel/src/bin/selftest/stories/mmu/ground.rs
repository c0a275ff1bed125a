//! What the stories about memory stand on: pages to give away, small trees of page tables, single updates.
//!
//! The functions are safe where [`hypercall`]'s are not: all they touch is pages that a story took for itself, and
//! windows where Rust has nothing.

use crate::check::{Told, equal};
use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use guest_kernel::hypercall::{self, Answer, Flush, Owner, Vcpus};
use guest_kernel::paging::{PAGE_SIZE, PRESENT, USER, WRITABLE, frame, index};
use guest_kernel::start::start_info;
use guest_kernel::{memory, probe};
use pv_abi::mmu::{MmuUpdate, MmuextOp};
use pv_abi::start_info::StartFlags;

/// Set by the CPU at the first access.
pub const ACCESSED: u64 = 1 << 5;
/// Set by the CPU at the first write.
pub const DIRTY: u64 = 1 << 6;
/// In entries above level 1: maps a large page. In level 1 entries: a cache bit.
pub const LARGE: u64 = 1 << 7;
/// Instructions can't be fetched.
pub const NO_EXECUTE: u64 = 1 << 63;

/// Flags of a level 1 entry for a kernel page that can be read.
pub const READ: u64 = PRESENT | ACCESSED;
/// Flags of a level 1 entry for a kernel page that can be written.
pub const WRITE: u64 = READ | WRITABLE | DIRTY;
/// Flags of an entry above level 1.
pub const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED;

/// The first address below the root's entry [`WINDOW_SLOT`], where neither builder nor library map anything.
pub const WINDOW: u64 = (WINDOW_SLOT as u64) << 39;
/// The root table's entry for [`WINDOW`].
pub const WINDOW_SLOT: usize = 2;

/// A page of the heap that a story gives to the hypervisor: mapped writable, and zero. It is never freed.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Where it is mapped.
    pub address: u64,
    /// Its machine frame.
    pub mfn: u64,
}

impl Page {
    /// A fresh one.
    pub fn new() -> Page {
        // SAFETY: the layout isn't empty.
        let page = unsafe { alloc_zeroed(Layout::new::<AlignedPage>()) };
        assert!(!page.is_null(), "no heap left for a page");
        let address = page as u64;
        Page { address, mfn: memory::machine_frame_at(address).expect("heap outside the domain's frames") }
    }

    /// A fresh one that is mapped read-only, with these words from the start.
    pub fn read_only(words: &[u64]) -> Result<Page, crate::check::Ending> {
        let page = Page::new();
        for (index, word) in words.iter().enumerate() {
            page.write(index, *word);
        }
        page.protect()?;
        Ok(page)
    }

    /// Reads a word, by its number in the page.
    pub fn read(self, index: usize) -> u64 {
        // SAFETY: the page stays mapped, at least to read.
        unsafe { (self.address as *const u64).add(index).read_volatile() }
    }

    /// Writes a word of a page that is mapped writable.
    pub fn write(self, index: usize, value: u64) {
        // SAFETY: the page is the story's alone.
        unsafe { (self.address as *mut u64).add(index).write_volatile(value) }
    }

    /// A page-table entry for the page.
    pub fn entry(self, flags: u64) -> u64 {
        self.mfn << 12 | flags
    }

    /// The machine address of a word: what `mmu_update` calls an entry of a table.
    pub fn slot(self, index: usize) -> u64 {
        self.mfn * PAGE_SIZE + 8 * index as u64
    }

    /// Takes the right to write from the page's mapping, as a table's must not have it.
    pub fn protect(self) -> Told {
        equal("map a page read-only", map(self.address, self.entry(READ)), Ok(0))
    }

    /// Gives the right to write back, which the hypervisor grants when the page is nothing special any more.
    pub fn unprotect(self) -> Told {
        equal("map a page writable", map(self.address, self.entry(WRITE)), Ok(0))
    }
}

#[repr(align(4096))]
struct AlignedPage(#[allow(dead_code, reason = "only its size and alignment count")] [u8; 4096]);

/// A table of each level, each named by the first entry of the one above, and a page that the lowest maps writable.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    pub l4: Page,
    pub l3: Page,
    pub l2: Page,
    pub l1: Page,
    pub data: Page,
}

impl Tree {
    /// A tree in plain, writable pages.
    pub fn new() -> Tree {
        let [l4, l3, l2, l1, data] = [(); 5].map(|()| Page::new());
        l4.write(0, l3.entry(TABLE));
        l3.write(0, l2.entry(TABLE));
        l2.write(0, l1.entry(TABLE));
        l1.write(0, data.entry(WRITE));
        Tree { l4, l3, l2, l1, data }
    }

    /// A tree whose tables are mapped read-only.
    pub fn protected() -> Result<Tree, crate::check::Ending> {
        let tree = Tree::new();
        tree.tables().into_iter().try_for_each(Page::protect)?;
        Ok(tree)
    }

    /// A protected tree that is mapped at [`WINDOW`] in the current address space, from its level 3 table down.
    pub fn hooked() -> Result<Tree, crate::check::Ending> {
        let tree = Tree::protected()?;
        equal("enter a level 3 table in the root", set(root_slot(WINDOW_SLOT), tree.l3.entry(TABLE)), Ok(0))?;
        Ok(tree)
    }

    /// The tables, from the root down.
    pub fn tables(&self) -> [Page; 4] {
        [self.l4, self.l3, self.l2, self.l1]
    }
}

/// The machine address of an entry of the current root table.
pub fn root_slot(index: usize) -> u64 {
    root() * PAGE_SIZE + 8 * index as u64
}

/// The machine frame of the current root table.
pub fn root() -> u64 {
    probe::cr3().unwrap_or(0) / PAGE_SIZE
}

/// The machine frame of the table of `level` that the current address space uses for `address`.
pub fn table_of(address: u64, level: u32) -> Option<u64> {
    (level + 1..=4).rev().try_fold(root(), |table, level| {
        let at = memory::address_of_frame(table)? + 8 * index(address, level) as u64;
        probe::read(at).ok().filter(|entry| entry & PRESENT != 0).map(frame)
    })
}

/// The machine address of the level 1 entry for `address`.
pub fn leaf_slot(address: u64) -> Option<u64> {
    Some(table_of(address, 1)? * PAGE_SIZE + 8 * index(address, 1) as u64)
}

/// One `mmu_update`: `pointer` is the machine address of an entry, with a command in the low bits.
pub fn set(pointer: u64, value: u64) -> Answer {
    updates(&[(pointer, value)])
}

/// A list of updates by `mmu_update`.
pub fn updates(list: &[(u64, u64)]) -> Answer {
    let list: alloc::vec::Vec<_> = list.iter().map(|&(ptr, val)| MmuUpdate { ptr, val }).collect();
    // SAFETY: see the module.
    unsafe { hypercall::mmu_update(&list, None, Owner::SELF) }
}

/// One operation by `mmuext_op`.
pub fn operate(operation: MmuextOp) -> Answer {
    // SAFETY: see the module.
    unsafe { hypercall::mmuext_op(&[operation], None, Owner::SELF) }
}

/// Maps one page by `update_va_mapping`, and flushes its old translation.
pub fn map(address: u64, entry: u64) -> Answer {
    // SAFETY: see the module.
    unsafe { hypercall::update_va_mapping(address, entry, Flush::Address(Vcpus::Here)) }
}

/// Flushes this vCPU's TLB.
pub fn flush() -> Told {
    equal("flush the TLB", operate(hypercall::mmuext::flush_here()), Ok(0))
}

/// Whether the domain has rights over devices and other domains, as Xen's first domain has.
pub fn is_privileged() -> bool {
    StartFlags::from_bits_retain(start_info().flags).contains(StartFlags::PRIVILEGED)
}
