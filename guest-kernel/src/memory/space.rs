//! Address spaces: regions for user mode, with pages that come when they are touched, and the kernel's part.
//!
//! User mode has the first entry of the root tables, 512 GiB, with one level 3 table that both roots share: the
//! kernel's root, which has the kernel's entries as well, and the user's, which has nothing else. The builder's
//! physical-to-machine table, at the second entry, belongs to the kernel's part.
//!
//! A space is made of plain tables and then pinned. After that its tables can't be written, and changes are requests.
//! Pages of regions are shared between a space and its forks until one of them writes (copy on write).

use super::direct::DIRECT_MAP;
use super::frames::Editor;
use super::{Error, Memory, numbers};
use crate::hypercall::{Flush, Vcpus, mmuext, update_va_mapping};
use crate::paging::frames::FrameList;
use crate::paging::regions::{Regions, Unsuitable};
use crate::paging::tree::{Copied, Missing, Root, Tables, copy, edit, tables_for};
use crate::paging::{Mfn, PAGE_BYTES, PAGE_SIZE, Pfn, Rights, WRITABLE, index, table, target, user_page};
use crate::start::{P2M_BASE, VIRT_BASE};
use core::ops::Range;

/// The first address above user mode's part.
pub const USER_END: u64 = 1 << 39;

/// The entries of a root table that belong to the kernel: its tables of numbers, its frames, its image.
const KERNEL_SLOTS: [usize; 3] = [index(P2M_BASE, 4), index(DIRECT_MAP, 4), index(VIRT_BASE, 4)];
/// The entry of a root table that belongs to user mode.
const USER_SLOT: usize = 0;

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

/// An address space. One that is dropped keeps its frames: [`destroy`](Space::destroy) returns them.
#[derive(Debug)]
pub struct Space {
    regions: Regions,
    /// Root table of the kernel.
    kernel: Mfn,
    /// Root table of user mode.
    user: Mfn,
    /// The level 3 table below both.
    upper: Mfn,
    /// Tables that are plain, and those that aren't.
    fresh: FrameList,
    sealed: FrameList,
    pinned: bool,
}

impl Space {
    /// A space without regions.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`].
    pub fn new(memory: &mut Memory) -> Result<Space, Error> {
        Space::with(memory, Regions::new(USER_END))
    }

    fn with(memory: &mut Memory, regions: Regions) -> Result<Space, Error> {
        memory.expect_free(3)?;
        let entries = KERNEL_SLOTS.map(|slot| (slot, memory.read(memory.root, slot)));
        let (mut fresh, mut sealed) = (FrameList::new(), FrameList::new());
        let mut editor = Editor { memory, fresh: &mut fresh, sealed: &mut sealed };
        let [kernel, user, upper] = [editor.allocate()?, editor.allocate()?, editor.allocate()?];
        for (slot, entry) in entries {
            editor.store(kernel, slot, entry);
        }
        editor.store(kernel, USER_SLOT, table(upper));
        editor.store(user, USER_SLOT, table(upper));
        Ok(Space { regions, kernel, user, upper, fresh, sealed, pinned: false })
    }

    /// Adds a region. Its pages come when they are touched.
    ///
    /// # Errors
    /// When the range doesn't suit.
    pub fn add(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Unsuitable> {
        self.regions.add(range, rights)
    }

    /// Moves the end of the region that starts at `start` up by `bytes`. The answer is where it was.
    ///
    /// # Errors
    /// When there is no such region, or the longer one doesn't suit.
    pub fn grow(&mut self, start: u64, bytes: u64) -> Result<u64, Unsuitable> {
        self.regions.grow(start, bytes)
    }

    /// How many page tables the space has, roots included.
    pub fn tables(&self) -> u32 {
        self.fresh.len() + self.sealed.len()
    }

    /// The level 1 entry at an address of user mode, 0 if there is none.
    pub fn entry(&self, memory: &Memory, address: u64) -> u64 {
        if address < USER_END { memory.lookup(self.upper, 3, address) } else { 0 }
    }

    /// The addresses of all tables in the kernel.
    pub fn table_addresses<'a>(&self, memory: &'a Memory) -> impl Iterator<Item = u64> + use<'a> {
        [&self.fresh, &self.sealed]
            .map(|list| memory.frames.first(list))
            .into_iter()
            .flat_map(|first| core::iter::successors(first, |pfn| memory.frames.next(*pfn)).map(numbers::address))
    }

    /// Makes the hypervisor check all tables and keep them as such. From then on the space can be
    /// [activated](Memory::activate).
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn pin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        self.request_pin(memory)?;
        memory.commit()
    }

    fn request_pin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        editor.seal()?;
        for root in [self.kernel, self.user] {
            memory.batch.operation(mmuext::pin(4, root.0)).map_err(Error::Refused)?;
        }
        self.pinned = true;
        Ok(())
    }

    /// Makes all tables plain again. The space must not be active.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn unpin(&mut self, memory: &mut Memory) -> Result<(), Error> {
        assert!(memory.active != self.kernel, "unpinning the active address space");
        for root in [self.kernel, self.user] {
            memory.batch.operation(mmuext::unpin(root.0)).map_err(Error::Refused)?;
        }
        memory.remap_all(&self.sealed, Rights::Write)?;
        // The tables are about to be written: their read-only translations have to go.
        memory.flush()?;
        memory.frames.append(&mut self.fresh, core::mem::take(&mut self.sealed));
        self.pinned = false;
        Ok(())
    }

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
        if memory.references(shared) == 1 {
            self.replace(memory, address, user_page(mfn, rights))?;
            return Ok(Touched::Reclaimed);
        }
        let own = memory.allocate()?;
        memory.copy_frame(shared, own);
        self.replace(memory, address, user_page(numbers::mfn(own), rights))?;
        memory.release(shared);
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
            assert!(memory.references(frame) == 1, "{page:#x} is shared");
            memory.write_frame(frame, offset, &bytes[part]);
        }
        Ok(())
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
            let pfn = editor.memory.allocate()?;
            Ok(Some(user_page(numbers::mfn(pfn), rights)))
        })?;
        memory.commit()?;
        Ok(filled)
    }

    /// Maps frame `pfn` at each page of a range, which lies in regions without pages there. The space takes a reference
    /// for each, beside the caller's; the frame counts as shared, so it is mapped without the right to write.
    ///
    /// # Errors
    /// When memory fails.
    pub fn share(&mut self, memory: &mut Memory, range: Range<u64>, pfn: Pfn) -> Result<(), Denied> {
        memory.expect_free(tables_for(&range))?;
        let (regions, mfn) = (self.regions.clone(), numbers::mfn(pfn));
        self.edit(memory, range, Missing::Make, &mut |editor, address, old| {
            assert!(target(old).is_none(), "{address:#x} is mapped already");
            let rights = regions.at(address).expect("a page outside of regions").rights;
            editor.memory.frames.share(pfn);
            Ok(Some(user_page(mfn, rights) & !WRITABLE))
        })?;
        Ok(memory.commit()?)
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

    fn edit(
        &mut self,
        memory: &mut Memory,
        range: Range<u64>,
        missing: Missing,
        leaf: &mut impl FnMut(&mut Editor<'_>, u64, u64) -> Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        let root = self.root();
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        edit(&mut editor, root, range, missing, leaf)
    }

    fn root(&self) -> Root {
        Root { table: self.upper, level: 3, live: self.pinned }
    }

    /// Copies bytes to user pages, as user mode could.
    ///
    /// # Errors
    /// As [`touch`](Space::touch); pages before the one denied are written.
    pub fn write(&mut self, memory: &mut Memory, address: u64, bytes: &[u8]) -> Result<(), Denied> {
        for (page, offset, part) in pages(address, bytes.len())? {
            self.touch(memory, page, Access::Write)?;
            memory.write_frame(self.frame(memory, page), offset, &bytes[part]);
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
            memory.read_frame(self.frame(memory, page), offset, &mut bytes[part]);
        }
        Ok(())
    }

    /// The frame of a page that was touched.
    fn frame(&self, memory: &Memory, page: u64) -> Pfn {
        numbers::pfn(target(self.entry(memory, page)).expect("a page that was touched"))
    }

    /// A pinned copy. Both spaces share all pages, without the right to write until one of them does.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] changes nothing.
    pub fn fork(&mut self, memory: &mut Memory) -> Result<Space, Error> {
        memory.expect_free(u64::from(self.tables()))?;
        let mut child = Space::with(memory, self.regions.clone())?;
        let (from, to) = (self.root(), child.upper);
        let mut editor = Editor { memory, fresh: &mut child.fresh, sealed: &mut child.sealed };
        for region in self.regions.iter() {
            copy(&mut editor, from, to, region.range.clone(), &mut |editor, old| {
                if let Some(mfn) = target(old) {
                    editor.memory.frames.share(numbers::pfn(mfn));
                }
                Ok(Copied { original: old & !WRITABLE, copy: old & !WRITABLE })
            })?;
        }
        child.request_pin(memory)?;
        if memory.active == self.kernel { memory.flush() } else { memory.commit() }?;
        Ok(child)
    }

    /// Gives back all that the space has. It must not be active.
    ///
    /// # Errors
    /// When the hypervisor refuses; frames are lost then.
    pub fn destroy(mut self, memory: &mut Memory) -> Result<(), Error> {
        if self.pinned {
            self.unpin(memory)?;
        }
        let root = self.root();
        let mut editor = Editor { memory, fresh: &mut self.fresh, sealed: &mut self.sealed };
        for region in self.regions.iter() {
            edit(&mut editor, root, region.range.clone(), Missing::Skip, &mut |editor, _, old| {
                if let Some(mfn) = target(old) {
                    editor.memory.frames.release(numbers::pfn(mfn));
                }
                Ok(None)
            })?;
        }
        memory.frames.free_list(self.fresh);
        Ok(())
    }
}

impl Memory {
    /// Loads an address space that is pinned. The kernel's own part is in it.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn activate(&mut self, space: &Space) -> Result<(), Error> {
        if self.active == space.kernel {
            return Ok(());
        }
        assert!(space.pinned, "activating an address space that isn't pinned");
        self.load(space.kernel, Some(space.user))
    }

    /// Loads the kernel's own address space, which has no user mode.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    pub fn deactivate(&mut self) -> Result<(), Error> {
        if self.active == self.root { Ok(()) } else { self.load(self.root, None) }
    }

    fn load(&mut self, kernel: Mfn, user: Option<Mfn>) -> Result<(), Error> {
        let operations = [mmuext::new_user_base(user.map_or(0, |user| user.0)), mmuext::new_base(kernel.0)];
        for operation in operations {
            self.batch.operation(operation).map_err(Error::Refused)?;
        }
        self.commit()?;
        self.active = kernel;
        Ok(())
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
