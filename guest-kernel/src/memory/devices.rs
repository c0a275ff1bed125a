//! Registers of devices, and memory that they reach: for the domain that has the hardware.

use super::{Error, Memory, numbers};
use crate::paging::tree::{Missing, tables_for};
use crate::paging::{Mfn, PAGE_SIZE, Pfn, device_page};
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Addresses where registers of devices are mapped. The direct map ends below; the kernel's own pages are behind.
pub const DEVICE_PAGES: Range<u64> = 0xffff_8838_0000_0000..0xffff_8840_0000_0000;

static NEXT: AtomicU64 = AtomicU64::new(DEVICE_PAGES.start);

/// Frames looked at, at most, to find some in a row.
const LOOK_AT: usize = 256;

/// Frames in a row, in the machine and in the address space. Dropped, they are lost: [`Memory::release_run`] takes them back.
#[derive(PartialEq, Eq, Debug)]
pub struct Run {
    first: Pfn,
    pages: usize,
}

impl Run {
    /// The machine address of the first byte.
    pub fn machine_address(&self) -> u64 {
        numbers::mfn(self.first).0 * PAGE_SIZE
    }

    /// The first byte.
    ///
    /// # Panics
    /// Never: address 0 is no frame's.
    pub fn start(&self) -> NonNull<u8> {
        NonNull::new(numbers::address(self.first) as *mut u8).expect("no frame is at address 0")
    }

    /// How many pages they are.
    pub const fn pages(&self) -> usize {
        self.pages
    }
}

impl Memory {
    /// Maps registers at a machine address, for good. The page's other registers come along.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`], and the hypervisor's for what is not the domain's.
    pub fn map_device(&mut self, address: u64, length: u64) -> Result<NonNull<u8>, Error> {
        let (offset, first) = (address % PAGE_SIZE, address / PAGE_SIZE);
        let size = (offset + length).next_multiple_of(PAGE_SIZE);
        let start = NEXT.fetch_add(size, Ordering::Relaxed);
        let range = start..start + size;
        if range.end > DEVICE_PAGES.end {
            return Err(Error::OutOfFrames);
        }
        self.expect_free(tables_for(&range))?;
        self.edit(range, Missing::Make, &mut |_, at, _| Ok(Some(device_page(Mfn(first + (at - start) / PAGE_SIZE)))))?;
        self.commit()?;
        NonNull::new((start + offset) as *mut u8).ok_or(Error::OutOfFrames)
    }

    /// Frames in a row, full of zeros.
    ///
    /// # Errors
    /// [`Error::OutOfFrames`], also if there are so many, but none in a row.
    pub fn allocate_run(&mut self, pages: usize) -> Result<Run, Error> {
        let mut taken = Vec::with_capacity(LOOK_AT.max(pages));
        let mut found = None;
        while found.is_none() && taken.len() < taken.capacity() {
            let Ok(frame) = self.new_page() else { break };
            let at = taken.partition_point(|&other: &Pfn| other < frame);
            taken.insert(at, frame);
            let follows =
                |pair: &[Pfn]| pair[1].0 == pair[0].0 + 1 && numbers::mfn(pair[1]).0 == numbers::mfn(pair[0]).0 + 1;
            // The new frame is in it, if there is one now.
            let near = at.saturating_sub(pages.saturating_sub(1))..taken.len().min(at + pages);
            let runs = taken[near].windows(pages.max(1));
            found = runs.filter(|run| run.windows(2).all(follows)).map(|run| run[0]).next();
        }
        let of_run = |pfn: Pfn| found.is_some_and(|first| (first.0..first.0 + pages as u64).contains(&pfn.0));
        taken.iter().filter(|&&pfn| !of_run(pfn)).for_each(|&pfn| self.frames.release(pfn));
        found.map(|first| Run { first, pages }).ok_or(Error::OutOfFrames)
    }

    /// Takes frames back.
    pub fn release_run(&mut self, run: Run) {
        (run.first.0..run.first.0 + run.pages as u64).for_each(|pfn| self.frames.release(Pfn(pfn)));
    }
}
