//! Memory that is filled, shared with a child by copy-on-write, protected, moved and given back.

use super::{Numbers, failed};
use nix::sys::mman::{MRemapFlags, MapFlags, ProtFlags, mmap_anonymous, mprotect, mremap, munmap};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::exit;
use std::ptr::NonNull;

const PAGE: usize = 4096;
/// Words of a page.
const WORDS: usize = PAGE / 8;

/// Pages of this process, whose first words are numbers that can be had again.
struct Pages {
    start: NonNull<u64>,
    count: usize,
}

impl Pages {
    fn new(count: usize) -> Result<Pages, String> {
        let length = NonZeroUsize::new(count * PAGE).ok_or("no pages")?;
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let start = unsafe { mmap_anonymous(None, length, rights, MapFlags::MAP_PRIVATE) }.map_err(failed("mmap"))?;
        Ok(Pages { start: start.cast(), count })
    }

    fn raw(&self) -> (NonNull<c_void>, usize) {
        (self.start.cast(), self.count * PAGE)
    }

    fn fill(&mut self, seed: u64) {
        let mut numbers = Numbers::new(seed);
        for page in 0..self.count {
            // SAFETY: the word is in the mapping, which is writable and nobody else's.
            unsafe { self.start.add(page * WORDS).write_volatile(numbers.next()) };
        }
    }

    fn is_filled(&self, seed: u64) -> bool {
        let mut numbers = Numbers::new(seed);
        // SAFETY: as above.
        (0..self.count).all(|page| unsafe { self.start.add(page * WORDS).read_volatile() } == numbers.next())
    }

    /// Takes the right to write away and gives it back.
    fn protect(&mut self) -> Result<(), String> {
        let (start, length) = self.raw();
        for rights in [ProtFlags::PROT_READ, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE] {
            // SAFETY: nobody writes meanwhile.
            unsafe { mprotect(start, length, rights) }.map_err(failed("mprotect"))?;
        }
        Ok(())
    }

    /// Lets the kernel move the pages by moving their entries.
    fn grow(&mut self) -> Result<(), String> {
        let (start, length) = self.raw();
        let flags = MRemapFlags::MREMAP_MAYMOVE;
        // SAFETY: nothing but `self.start` refers to the pages, and that becomes the new address.
        let moved = unsafe { mremap(start, length, length * 2, flags, None) }.map_err(failed("mremap"))?;
        self.start = moved.cast();
        // SAFETY: the second half is nobody's: it has never been written to.
        unsafe { munmap(moved.byte_add(length), length) }.map_err(failed("munmap"))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let (start, length) = self.raw();
        // SAFETY: nothing refers to the pages any more.
        let result = unsafe { munmap(start, length) };
        assert_eq!(result, Ok(()), "a mapping can be given back");
    }
}

pub fn round(number: u64, _folder: &Path) -> Result<(), String> {
    let mut pages = Pages::new(64 << (number % 6))?;
    pages.fill(number);
    // SAFETY: this process has one thread, so the child may do what the parent may.
    match unsafe { fork() }.map_err(failed("fork"))? {
        ForkResult::Child => {
            let inherited = pages.is_filled(number);
            pages.fill(!number);
            exit(i32::from(!inherited || !pages.is_filled(!number)));
        }
        ForkResult::Parent { child } => {
            pages.protect()?;
            pages.grow()?;
            if waitpid(child, None) != Ok(WaitStatus::Exited(child, 0)) {
                return Err("a child found other contents in its pages".to_owned());
            }
        }
    }
    if pages.is_filled(number) { Ok(()) } else { Err("pages have other contents".to_owned()) }
}
