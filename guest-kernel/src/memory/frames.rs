//! Frames as bytes and as tables, at their addresses in the kernel.

use super::{Error, Memory, numbers};
use crate::paging::frames::FrameList;
use crate::paging::tree::Tables;
use crate::paging::{Mfn, PAGE_BYTES, Pfn, Rights, index, kernel_page, leaf_table};
use core::ptr::{copy_nonoverlapping, write_bytes};

/// A frame in its holder's hands. One that is dropped is lost: [`Memory::release`] takes it back.
#[derive(PartialEq, Eq, Debug)]
pub struct Frame(Pfn);

impl Frame {
    /// Its number.
    pub(super) const fn pfn(&self) -> Pfn {
        self.0
    }
}

impl Memory {
    /// A frame full of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`].
    pub fn allocate(&mut self) -> Result<Frame, Error> {
        self.new_page().map(Frame)
    }

    /// Takes a frame back. It is free when no address space has it.
    pub fn release(&mut self, frame: Frame) {
        self.frames.release(frame.0);
    }

    /// The references to a frame: its holder's, and one for each page of an address space.
    pub fn references(&self, frame: &Frame) -> u32 {
        self.frames.references(frame.0)
    }

    /// Copies bytes to a frame, from `offset` on.
    ///
    /// # Panics
    /// If they don't fit.
    pub fn write_frame(&mut self, frame: &Frame, offset: usize, bytes: &[u8]) {
        self.write_page(frame.0, offset, bytes);
    }

    /// A frame full of zeros, with one reference.
    pub(super) fn new_page(&mut self) -> Result<Pfn, Error> {
        let pfn = self.frames.allocate().ok_or(Error::OutOfFrames)?;
        self.clear(pfn);
        Ok(pfn)
    }

    /// Copies bytes to a frame that belongs to an address space or a holder, from `offset` on.
    pub(super) fn write_page(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) {
        assert!(self.frames.references(pfn) > 0 && offset <= PAGE_BYTES && bytes.len() <= PAGE_BYTES - offset);
        // SAFETY: a frame with references is no table, so it is mapped writable at its address. Frames of the kernel's
        // own pages, in which Rust's objects live, don't come here. The length is checked.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), bytes_of(pfn).add(offset), bytes.len()) };
    }

    /// Copies bytes out of such a frame, from `offset` on.
    pub(super) fn read_page(&self, pfn: Pfn, offset: usize, bytes: &mut [u8]) {
        assert!(self.frames.references(pfn) > 0 && offset <= PAGE_BYTES && bytes.len() <= PAGE_BYTES - offset);
        // SAFETY: as above.
        unsafe { copy_nonoverlapping(bytes_of(pfn).add(offset), bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Copies all of such a frame to another.
    pub(super) fn copy_page(&mut self, from: Pfn, to: Pfn) {
        assert!(from != to && self.frames.references(from) > 0 && self.frames.references(to) > 0);
        // SAFETY: as above.
        unsafe { copy_nonoverlapping(bytes_of(from), bytes_of(to), PAGE_BYTES) };
    }

    /// Fills a frame that came from the frame table just now with zeros.
    fn clear(&mut self, pfn: Pfn) {
        // SAFETY: a free frame is mapped writable, and nothing else uses it.
        unsafe { write_bytes(bytes_of(pfn), 0, PAGE_BYTES) };
    }

    /// Reads an entry of a table.
    pub(super) fn read(&self, table: Mfn, index: usize) -> u64 {
        // SAFETY: tables are mapped for reading, and the index is below 512. CPU and hypervisor write entries too.
        unsafe { slot(table, index).read_volatile() }
    }

    /// The entry that maps an address in the address space of `root`, a table of `level`; 0 without one.
    pub(super) fn lookup(&self, root: Mfn, level: u32, address: u64) -> u64 {
        leaf_table(root, level, address, |table, index| Some(self.read(table, index)))
            .map_or(0, |table| self.read(table, index(address, 1)))
    }

    /// Requests other rights for the kernel's mapping of a frame.
    pub(super) fn remap(&mut self, pfn: Pfn, rights: Rights) -> Result<(), Error> {
        let address = numbers::address(pfn);
        let table = leaf_table(self.root, 4, address, |table, index| Some(self.read(table, index)));
        let table = table.expect("a frame without an address");
        let entry = kernel_page(numbers::mfn(pfn), rights);
        self.batch.update(table, index(address, 1), entry).map_err(Error::Refused)
    }

    /// Requests other rights for the mappings of all frames of a list.
    pub(super) fn remap_all(&mut self, list: &FrameList, rights: Rights) -> Result<(), Error> {
        let mut next = self.frames.first(list);
        while let Some(pfn) = next {
            self.remap(pfn, rights)?;
            next = self.frames.next(pfn);
        }
        Ok(())
    }
}

/// The way in which trees of tables change: new tables are plain frames of list `fresh`, and move to list `sealed`.
pub(super) struct Editor<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) fresh: &'a mut FrameList,
    pub(super) sealed: &'a mut FrameList,
}

impl Tables for Editor<'_> {
    type Error = Error;

    fn read(&self, table: Mfn, index: usize) -> u64 {
        self.memory.read(table, index)
    }

    fn store(&mut self, table: Mfn, index: usize, entry: u64) {
        // SAFETY: a plain table is a frame that is mapped writable and used as nothing else; the index is below 512.
        unsafe { slot(table, index).write(entry) };
    }

    fn request(&mut self, table: Mfn, index: usize, entry: u64) -> Result<(), Error> {
        self.memory.batch.update(table, index, entry).map_err(Error::Refused)
    }

    fn allocate(&mut self) -> Result<Mfn, Error> {
        let pfn = self.memory.frames.allocate_to(self.fresh).ok_or(Error::OutOfFrames)?;
        self.memory.clear(pfn);
        Ok(numbers::mfn(pfn))
    }

    fn seal(&mut self) -> Result<(), Error> {
        self.memory.remap_all(self.fresh, Rights::Read)?;
        self.memory.frames.append(self.sealed, core::mem::take(self.fresh));
        Ok(())
    }
}

fn bytes_of(pfn: Pfn) -> *mut u8 {
    numbers::address(pfn) as *mut u8
}

fn slot(table: Mfn, index: usize) -> *mut u64 {
    assert!(index < 512);
    (numbers::address(numbers::pfn(table)) + 8 * index as u64) as *mut u64
}
