//! Frames of other domains, shown in a window of the kernel.

use crate::memory::{self, Error};
use crate::paging::{PAGE_BYTES, PAGE_SIZE, Rights};
use core::ops::Range;
use core::ptr::copy_nonoverlapping;

/// Frames of another domain, mapped writable, until this is dropped.
///
/// The other domain may change them at any time: what is read here is read once, then judged.
#[derive(Debug)]
pub struct Foreign {
    window: Range<u64>,
    shows: bool,
}

impl Foreign {
    /// Shows frames of `domain`, by their machine frame numbers.
    ///
    /// # Errors
    /// The hypervisor's, for frames that can't be mapped; [`Error::OutOfFrames`] without room for a window.
    pub fn map(domain: u16, frames: &[u64]) -> Result<Foreign, Error> {
        let mut foreign = Foreign::window(frames.len() as u64)?;
        foreign.show(domain, frames)?;
        Ok(foreign)
    }

    /// A window of `pages` pages that shows nothing yet.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] without room for it.
    pub fn window(pages: u64) -> Result<Foreign, Error> {
        Ok(Foreign { window: memory::lock()?.reserve(pages)?, shows: false })
    }

    /// Shows other frames, of `domain`.
    ///
    /// # Errors
    /// The hypervisor's, for frames that can't be mapped. Then nothing is shown.
    pub fn show(&mut self, domain: u16, frames: &[u64]) -> Result<(), Error> {
        self.clear()?;
        self.shows = true;
        let shown = memory::lock()?.show(&self.window, domain, frames, Rights::Write);
        shown.inspect_err(|_| self.shows = false)
    }

    fn clear(&mut self) -> Result<(), Error> {
        if self.shows {
            // SAFETY: what is shown is used by borrows of `self` only, and none lives.
            unsafe { memory::lock()?.hide(&self.window) }?;
            self.shows = false;
        }
        Ok(())
    }

    /// Where a place in the window is.
    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        let size = usize::try_from(self.window.end - self.window.start).unwrap_or(0);
        assert!(self.shows && bytes <= size && offset <= size - bytes, "beyond the window");
        (self.window.start + offset as u64) as *mut u8
    }

    /// Copies bytes to the frames, `offset` counted from the first one's start.
    ///
    /// # Panics
    /// If they don't fit in the window. Behind the frames that are shown is nothing: that is a fault.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        // SAFETY: the window is mapped writable, no Rust object is in it, and the length is checked.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), self.at(offset, bytes.len()), bytes.len()) };
    }

    /// Reads a word of the frames.
    ///
    /// # Panics
    /// If there is none at this offset.
    pub fn word(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8));
        // SAFETY: the word is in the window, and aligned; the domain may change it at any time.
        unsafe { self.at(offset, 8).cast::<u64>().read_volatile() }
    }

    /// What is at the start of the first frame, as a structure that both domains use.
    ///
    /// # Safety
    /// `T` is made of atomics only, any bits are a value of it, and the frames are shown.
    ///
    /// # Panics
    /// If `T` is larger than a page.
    pub unsafe fn shared<T: Sync>(&self) -> &T {
        assert!(size_of::<T>() <= PAGE_BYTES && align_of::<T>() <= PAGE_BYTES);
        // SAFETY: the window starts at a page and stays mapped while `self` is borrowed; the rest is the caller's promise.
        unsafe { &*self.at(0, size_of::<T>()).cast::<T>() }
    }

    /// How many pages the window has.
    pub const fn pages(&self) -> u64 {
        (self.window.end - self.window.start) / PAGE_SIZE
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // A window that can't be emptied is not used again.
        if self.clear().is_ok()
            && let Ok(mut memory) = memory::lock()
        {
            memory.unreserve(&self.window);
        }
    }
}
