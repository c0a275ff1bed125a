//! Pages of the image to do things with: pages to map and unmap, page tables.

use core::cell::UnsafeCell;
use guest_kernel::hypercall::{Flush, Vcpus, update_va_mapping};
use guest_kernel::memory;
use guest_kernel::paging::{self, PAGE_SIZE, PRESENT, USER, WRITABLE};
use guest_kernel::start::start_info;
use pv_abi::errno::Errno;

/// Pages of the image that hold nothing. They are reached by raw pointers alone, so Rust minds no change of mapping.
#[repr(C, align(4096))]
pub struct Pages<const N: usize>(UnsafeCell<[[u8; 4096]; N]>);

// SAFETY: one vCPU runs this kernel.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    /// Pages of zeros.
    pub const fn new() -> Pages<N> {
        Pages(UnsafeCell::new([[0; 4096]; N]))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        N
    }

    /// The page of this index.
    pub fn page(&self, index: usize) -> Page {
        assert!(index < N, "page {index} of {N}");
        let address = self.0.get() as u64 + index as u64 * PAGE_SIZE;
        let frame = memory::machine_frame_at(address).expect("the builder maps the image");
        Page { address, frame }
    }
}

/// A page: where it is mapped at start, and its machine frame.
#[derive(Clone, Copy)]
pub struct Page {
    pub address: u64,
    pub frame: u64,
}

impl Page {
    /// An entry that maps it writable.
    pub fn writable(self) -> u64 {
        entry(self.frame, WRITABLE)
    }

    fn read_only(self) -> u64 {
        entry(self.frame, 0)
    }

    /// Makes it read-only, as page tables must be.
    ///
    /// # Errors
    /// Those of `update_va_mapping`.
    pub fn protect(self) -> Result<(), Errno> {
        // SAFETY: nothing in Rust lives in the page.
        unsafe { update_va_mapping(self.address, self.read_only(), Flush::Address(Vcpus::Here)) }.map(drop)
    }

    /// The machine address of the level 1 entry that maps its address.
    pub fn slot(self) -> u64 {
        let (table, index) = slot(self.address);
        table * PAGE_SIZE + 8 * index as u64
    }

    /// Where the guest itself can read that entry.
    pub fn slot_address(self) -> u64 {
        let (table, index) = slot(self.address);
        memory::address_of_frame(table).expect("the builder maps its tables") + 8 * index as u64
    }
}

/// A present entry for `frame` with `rights` added.
const fn entry(frame: u64, rights: u64) -> u64 {
    (frame * PAGE_SIZE) | PRESENT | USER | rights
}

/// The frame of the level 1 table that covers `address`, and the index of its entry there.
fn slot(address: u64) -> (u64, usize) {
    let root = memory::machine_frame_at(start_info().pt_base).expect("the builder maps its tables");
    let table = [4, 3, 2].into_iter().fold(root, |table, level| {
        let entries = memory::address_of_frame(table).expect("the builder maps its tables") as *const u64;
        // SAFETY: the builder maps its tables, and the entry lies in one.
        let entry = unsafe { entries.add(paging::index(address, level)).read_volatile() };
        assert!(entry & PRESENT != 0, "no page table covers {address:#x}");
        paging::frame(entry)
    });
    (table, paging::index(address, 1))
}
