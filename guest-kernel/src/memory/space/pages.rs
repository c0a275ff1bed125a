//! The pages of an address space: those that come when they are touched, copies on write, contents.

use super::{Space, USER_END};
use crate::hypercall::{Flush, Vcpus, update_va_mapping};
use crate::memory::{Error, Frame, Memory, numbers};
use crate::paging::tree::{Missing, tables_for};
use crate::paging::{PAGE_BYTES, PAGE_SIZE, Pfn, Rights, WRITABLE, target, user_page};
use core::ops::Range;

/// What is to be done with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "verbs by themselves")]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// What it took to make an access possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touched {
    /// Nothing.
    Present,
    /// A new page, full of zeros.
    Filled,
    /// A copy of a page that others have, too.
    Copied,
    /// Nobody else has the page any more, so it became writable again.
    Reclaimed,
}

/// Why an access isn't possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// There is no region at the address.
    NoRegion,
    /// The region there doesn't have the right.
    NoRight,
    /// Memory.
    Memory(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Denied {
        Denied::Memory(error)
    }
}

impl Space {
    /// Makes the page at `address` ready for an access, if its region allows that.
    ///
    /// # Errors
    /// When it doesn't, or memory fails.
    pub fn touch(&mut self, memory: &mut Memory, address: u64, access: Access) -> Result<Touched, Denied> {
        let rights = self.regions.at(address).ok_or(Denied::NoRegion)?.rights;
        match (access, rights) {
            (Access::Read, _) | (Access::Write, Rights::Write) | (Access::Execute, Rights::Execute) => {}
            _ => return Err(Denied::NoRight),
        }
        let entry = self.entry(memory, address);
        let Some(mfn) = target(entry) else {
            self.fill(memory, page_of(address), rights)?;
            return Ok(Touched::Filled);
        };
        if access != Access::Write || entry & WRITABLE != 0 {
            return Ok(Touched::Present);
        }
        let shared = numbers::pfn(mfn);
        if memory.frames.references(shared) == 1 {
            self.replace(memory, address, user_page(mfn, rights))?;
            return Ok(Touched::Reclaimed);
        }
        let own = memory.new_page()?;
        memory.copy_page(shared, own);
        self.replace(memory, address, user_page(numbers::mfn(own), rights))?;
        memory.frames.release(shared);
        Ok(Touched::Copied)
    }

    /// Makes all pages of a range, which lies in one region and has page boundaries, ready for reading. The answer is
    /// how many were missing.
    ///
    /// # Errors
    /// As [`touch`](Space::touch).
    pub fn populate(&mut self, memory: &mut Memory, range: Range<u64>) -> Result<u64, Denied> {
        let region = self.regions.at(range.start).ok_or(Denied::NoRegion)?;
        if range.end > region.range.end {
            return Err(Denied::NoRegion);
        }
        let rights = region.rights;
        Ok(self.fill(memory, range, rights)?)
    }

    /// Copies bytes to the pages of a region whatever its rights, as its first contents.
    ///
    /// # Errors
    /// As [`touch`](Space::touch).
    pub fn load(&mut self, memory: &mut Memory, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        for (page, offset, part) in pages(address, bytes.len())? {
            self.touch(memory, page, Access::Read)?;
            let frame = self.frame(memory, page);
            assert!(memory.frames.references(frame) == 1, "{page:#x} is shared");
            memory.write_page(frame, offset, &bytes[part]);
        }
        Ok(())
    }

    /// Maps a frame at each page of a range, which lies in regions without pages there. The space takes a reference
    /// for each, beside the caller's; the frame counts as shared, so it is mapped without the right to write.
    ///
    /// # Errors
    /// When memory fails.
    pub fn share(&mut self, memory: &mut Memory, range: Range<u64>, frame: &Frame) -> Result<(), Error> {
        memory.expect_free(tables_for(&range))?;
        let (regions, mfn) = (self.regions.clone(), numbers::mfn(frame.pfn()));
        self.edit(memory, range, Missing::Make, &mut |editor, address, old| {
            assert!(target(old).is_none(), "{address:#x} is mapped already");
            let rights = regions.at(address).expect("a page outside of regions").rights;
            editor.memory.frames.share(frame.pfn());
            Ok(Some(user_page(mfn, rights) & !WRITABLE))
        })?;
        memory.commit()
    }

    /// Copies bytes to user pages, as user mode could.
    ///
    /// # Errors
    /// As [`touch`](Space::touch); pages before the one denied are written.
    pub fn write(&mut self, memory: &mut Memory, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        for (page, offset, part) in pages(address, bytes.len())? {
            self.touch(memory, page, Access::Write)?;
            memory.write_page(self.frame(memory, page), offset, &bytes[part]);
        }
        Ok(())
    }

    /// Copies bytes from user pages, as user mode could.
    ///
    /// # Errors
    /// As [`touch`](Space::touch).
    pub fn read(&mut self, memory: &mut Memory, address: u64, bytes: &mut [u8]) -> Result<(), Denied> {
        for (page, offset, part) in pages(address, bytes.len())? {
            self.touch(memory, page, Access::Read)?;
            memory.read_page(self.frame(memory, page), offset, &mut bytes[part]);
        }
        Ok(())
    }

    /// The frame of a page that was touched.
    fn frame(&self, memory: &Memory, page: u64) -> Pfn {
        numbers::pfn(target(self.entry(memory, page)).expect("a page that was touched"))
    }

    /// Maps new pages in the place of those of a range that are missing.
    fn fill(&mut self, memory: &mut Memory, range: Range<u64>, rights: Rights) -> Result<u64, Error> {
        memory.expect_free((range.end - range.start) / PAGE_SIZE + tables_for(&range))?;
        let mut filled = 0;
        self.edit(memory, range, Missing::Make, &mut |editor, _, old| {
            if target(old).is_some() {
                return Ok(None);
            }
            filled += 1;
            let pfn = editor.memory.new_page()?;
            Ok(Some(user_page(numbers::mfn(pfn), rights)))
        })?;
        memory.commit()?;
        Ok(filled)
    }

    /// Replaces the entry of a page that is there.
    fn replace(&mut self, memory: &mut Memory, address: u64, entry: u64) -> Result<(), Error> {
        if memory.active == self.kernel {
            // SAFETY: a user page, where no Rust object lives.
            return unsafe { update_va_mapping(address, entry, Flush::Address(Vcpus::Here)) }
                .map(|_| ())
                .map_err(Error::Refused);
        }
        // No TLB has translations of a space that isn't active.
        self.edit(memory, page_of(address), Missing::Skip, &mut |_, _, _| Ok(Some(entry)))?;
        memory.commit()
    }
}

/// The page that an address is in.
const fn page_of(address: u64) -> Range<u64> {
    let start = address & !(PAGE_SIZE - 1);
    start..start + PAGE_SIZE
}

/// Splits a range of bytes by pages: address, offset in the page, and which bytes.
fn pages(address: u64, len: usize) -> Result<impl Iterator<Item = (u64, usize, Range<usize>)>, Denied> {
    // A range that ends in user mode's part has addresses without overflow, and lengths that fit.
    address.checked_add(len as u64).filter(|end| *end <= USER_END).ok_or(Denied::NoRegion)?;
    let mut at = 0;
    Ok(core::iter::from_fn(move || {
        let start = at;
        let place = address + start as u64;
        let offset = (place % PAGE_SIZE) as usize;
        at = (start + PAGE_BYTES - offset).min(len);
        (start < len).then_some((place, offset, start..at))
    }))
}
