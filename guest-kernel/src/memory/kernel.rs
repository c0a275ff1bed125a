//! Pages of the kernel, which are in all address spaces.

use super::{Error, Memory, numbers};
use crate::hypercall::mmuext;
use crate::paging::frames::FrameList;
use crate::paging::tree::{Missing, tables_for};
use crate::paging::{PAGE_SIZE, Rights, kernel_page, target};
use core::ops::Range;

/// Addresses where a kernel may map pages of its own. The direct map ends far below, and has the same level 3 table,
/// so that every address space sees what is mapped here. Behind it are the stacks of vCPUs.
pub const KERNEL_PAGES: Range<u64> = 0xffff_8840_0000_0000..0xffff_8870_0000_0000;

impl Memory {
    /// Maps new pages full of zeros. `range` has page boundaries, and the kernel maps nothing else there.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] changes nothing.
    pub fn map(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Error> {
        self.expect_free((range.end - range.start) / PAGE_SIZE + tables_for(&range))?;
        self.edit(range, Missing::Make, &mut |editor, address, old| {
            assert!(target(old).is_none(), "{address:#x} is mapped already");
            let pfn = editor.memory.new_page()?;
            Ok(Some(kernel_page(numbers::mfn(pfn), rights)))
        })?;
        self.commit()
    }

    /// Makes the page tables for a range of addresses where the kernel maps what is not its own, entry by entry. `range` has
    /// page boundaries, and [`map`](Memory::map) is not used for it.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`] changes nothing.
    pub fn make_tables(&mut self, range: Range<u64>) -> Result<(), Error> {
        self.expect_free(tables_for(&range))?;
        self.edit(range, Missing::Make, &mut |_, _, _| Ok(None))?;
        self.commit()
    }

    /// Unmaps pages that [`map`](Memory::map) mapped, and frees their frames. Tables stay.
    ///
    /// # Errors
    /// Only the hypervisor's.
    ///
    /// # Safety
    /// Nothing uses the pages any more.
    pub unsafe fn unmap(&mut self, range: Range<u64>) -> Result<(), Error> {
        let mut unmapped = FrameList::new();
        self.edit(range, Missing::Skip, &mut |editor, _, old| {
            let Some(mfn) = target(old) else { return Ok(None) };
            editor.memory.frames.release_to(&mut unmapped, numbers::pfn(mfn));
            Ok(Some(0))
        })?;
        self.flush()?;
        self.frames.free_list(unmapped);
        Ok(())
    }

    /// Changes the rights of pages that [`map`](Memory::map) mapped.
    ///
    /// # Errors
    /// Only the hypervisor's.
    ///
    /// # Safety
    /// What uses the pages gets along with the rights.
    pub unsafe fn protect(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Error> {
        self.edit(range, Missing::Skip, &mut |_, _, old| Ok(target(old).map(|mfn| kernel_page(mfn, rights))))?;
        self.flush()
    }

    /// Makes what waits in the batch, and flushes all vCPUs' TLBs after it.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.batch.operation(mmuext::flush_all()).map_err(Error::Refused)?;
        self.commit()
    }
}
