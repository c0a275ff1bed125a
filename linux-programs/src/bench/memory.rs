//! Page faults and changes of the address space.

use super::rounds;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

const PAGE: usize = 4096;
const PAGES: usize = 256;

/// Memory of this process alone.
struct Area {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Area {
    fn new(pages: usize) -> nix::Result<Area> {
        let length = NonZeroUsize::new(pages * PAGE).ok_or(nix::Error::EINVAL)?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let start = unsafe { mmap_anonymous(None, length, rights, MapFlags::MAP_PRIVATE)? };
        Ok(Area { start, length })
    }

    /// Writes to each page.
    fn touch(&mut self) {
        for page in 0..self.length.get() / PAGE {
            // SAFETY: the address is in the mapping, which is writable and nobody else's.
            unsafe { self.start.cast::<u8>().add(page * PAGE).write_volatile(1) };
        }
    }

    fn allow(&mut self, rights: ProtFlags) -> nix::Result<()> {
        // SAFETY: nothing refers to the memory; it is only written to by `touch`, when that is allowed again.
        unsafe { mprotect(self.start, self.length.get(), rights) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the memory any more.
        let result = unsafe { munmap(self.start, self.length.get()) };
        assert_eq!(result, Ok(()), "a mapping can be given back");
    }
}

/// The life of a page: the first write to it, which faults and gets a zeroed frame, and its share of giving all back.
pub fn page_fault() -> nix::Result<u64> {
    let mut result = Ok(());
    let count = rounds::each(1, || result = Area::new(PAGES).map(|mut area| area.touch()));
    result.map(|()| count / PAGES as u64)
}

/// Two changes of the entries of 256 pages that are there.
pub fn protect() -> nix::Result<u64> {
    const TIMES: u64 = 10;
    let mut area = Area::new(PAGES)?;
    area.touch();
    let mut result = Ok(());
    let count = rounds::each(TIMES, || {
        let there = area.allow(ProtFlags::PROT_READ);
        let back = area.allow(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        result = result.and(there).and(back);
    });
    result.map(|()| count)
}

/// A mapping of 16 pages of which one is used.
pub fn map_and_unmap() -> nix::Result<u64> {
    const TIMES: u64 = 200;
    let mut result = Ok(());
    let count = rounds::each(TIMES, || {
        // SAFETY: the address is in the mapping, which is writable and nobody else's.
        let used = Area::new(16).map(|area| unsafe { area.start.cast::<u8>().write_volatile(1) });
        result = result.and(used);
    });
    result.map(|()| count)
}
