//! Windows: addresses of the kernel at which frames are shown that aren't its own.

use super::{Error, KERNEL_PAGES, Memory};
use crate::hypercall::{Owner, mmu_update, mmuext, mmuext_op};
use crate::paging::tree::Missing;
use crate::paging::{Mfn, PAGE_BYTES, PAGE_SIZE, Rights, index, kernel_page, leaf_table};
use core::ops::Range;
use pv_abi::mmu::{MMU_NORMAL_PT_UPDATE, MmuUpdate};

/// Where windows are: the last 64 GiB of the [kernel's pages](KERNEL_PAGES), where nothing else is mapped.
pub const WINDOWS: Range<u64> = KERNEL_PAGES.end - (64 << 30)..KERNEL_PAGES.end;

/// Entries changed in one call.
const BATCH: usize = 64;

impl Memory {
    /// Addresses for a window of `pages` pages, with the tables that it takes, and nothing mapped.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] when there are no frames for tables, or no addresses.
    pub fn reserve(&mut self, pages: u64) -> Result<Range<u64>, Error> {
        let window =
            pages.checked_mul(PAGE_SIZE).and_then(|bytes| self.windows.take(bytes)).ok_or(Error::OutOfFrames)?;
        let made = self.edit(window.clone(), Missing::Make, &mut |_, _, _| Ok(None)).and_then(|()| self.commit());
        made.inspect_err(|_| self.windows.give_back(&window))?;
        Ok(window)
    }

    /// Takes the addresses back of a window that shows nothing.
    pub fn unreserve(&mut self, window: &Range<u64>) {
        self.windows.give_back(window);
    }

    /// Shows frames of `domain` in a window that shows nothing, from its first page on.
    ///
    /// # Errors
    /// The hypervisor's, for a frame that isn't the domain's or can't be mapped with these rights. Then nothing is shown.
    ///
    /// # Panics
    /// If the window is too small.
    pub fn show(&mut self, window: &Range<u64>, domain: u16, frames: &[u64], rights: Rights) -> Result<(), Error> {
        assert!(frames.len() as u64 <= (window.end - window.start) / PAGE_SIZE, "the window is too small");
        let entries = frames.iter().map(|frame| kernel_page(Mfn(*frame), rights));
        let owner = Owner { pages: domain, tables: None };
        self.write_entries(window.start, entries, owner).inspect_err(|_| {
            // SAFETY: nobody knows yet what was shown.
            _ = unsafe { self.hide(window) };
        })
    }

    /// Empties a window.
    ///
    /// # Errors
    /// The hypervisor's.
    ///
    /// # Safety
    /// Nothing uses what it shows.
    pub unsafe fn hide(&mut self, window: &Range<u64>) -> Result<(), Error> {
        let pages = (window.end - window.start) / PAGE_SIZE;
        self.write_entries(window.start, (0..pages).map(|_| 0), Owner::SELF)?;
        // SAFETY: a flush changes no mapping.
        unsafe { mmuext_op(&[mmuext::flush_all()], None, Owner::SELF) }.map(drop).map_err(Error::Refused)
    }

    /// Writes the entries that map the pages of a window from `address` on.
    fn write_entries(&self, address: u64, entries: impl Iterator<Item = u64>, owner: Owner) -> Result<(), Error> {
        let mut updates = [MmuUpdate { ptr: 0, val: 0 }; BATCH];
        let mut addresses = (address..).step_by(PAGE_BYTES);
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let mut count = 0;
            for ((update, val), address) in updates.iter_mut().zip(&mut entries).zip(&mut addresses) {
                let table = leaf_table(self.root, 4, address, |table, index| Some(self.read(table, index)));
                let table = table.expect("a window has its tables");
                *update =
                    MmuUpdate { ptr: (table.0 * PAGE_SIZE + 8 * index(address, 1) as u64) | MMU_NORMAL_PT_UPDATE, val };
                count += 1;
            }
            // SAFETY: only windows are mapped at these addresses, which show no memory that Rust believes to be its own.
            unsafe { mmu_update(&updates[..count], None, owner) }.map_err(Error::Refused)?;
        }
        Ok(())
    }
}
