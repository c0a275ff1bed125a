//! Frames of other domains, mapped for a moment: one page of the kernel's own, whose frame gives way.

use crate::hypercall::{Flush, Vcpus, update_va_mapping, update_va_mapping_otherdomain};
use crate::memory::{self, KERNEL_PAGES};
use crate::paging::{Mfn, PAGE_BYTES, PAGE_SIZE, Rights, kernel_page};
use core::ptr::copy_nonoverlapping;
use pv_abi::errno::Errno;
use spin::{Mutex, MutexGuard, Once};

/// Where the page is: at the end of the kernel's pages, where nothing else is mapped.
const ADDRESS: u64 = KERNEL_PAGES.end - PAGE_SIZE;

static WINDOW: Once<Result<Mutex<()>, memory::Error>> = Once::new();

/// The window, showing a frame of another domain, until it is dropped.
pub struct Window {
    _only: MutexGuard<'static, ()>,
}

impl Window {
    /// Shows a frame of `domain`.
    ///
    /// # Errors
    /// The hypervisor's refusal; `ENOMEM` if there is no page for the window.
    pub fn open(domain: u16, frame: u64) -> Result<Window, Errno> {
        let page = || memory::lock()?.map(ADDRESS..ADDRESS + PAGE_SIZE, Rights::Write).map(|()| Mutex::new(()));
        let only = WINDOW.call_once(page).as_ref().map_err(|_| Errno::ENOMEM)?.lock();
        let entry = kernel_page(Mfn(frame), Rights::Write);
        // SAFETY: nothing lives in the page: its own frame is never used.
        unsafe { update_va_mapping_otherdomain(ADDRESS, entry, Flush::Address(Vcpus::All), domain)? };
        Ok(Window { _only: only })
    }

    /// Copies bytes to the frame.
    ///
    /// # Panics
    /// If they don't fit in the page.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= PAGE_BYTES && bytes.len() <= PAGE_BYTES - offset);
        // SAFETY: the page is mapped writable, no Rust object is in it, and the length is checked.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), (ADDRESS as *mut u8).add(offset), bytes.len()) };
    }

    /// Reads a word of the frame.
    ///
    /// # Panics
    /// If there is none at this offset.
    pub fn word(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8) && offset < PAGE_BYTES);
        // SAFETY: the page is mapped, the word aligned and in it; the domain may change it at any time.
        unsafe { ((ADDRESS as *const u8).add(offset) as *const u64).read_volatile() }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: nobody else uses the page.
        let _ = unsafe { update_va_mapping(ADDRESS, 0, Flush::Address(Vcpus::All)) };
    }
}
