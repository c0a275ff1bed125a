//! What every rule works on: the machine's frames, the domain on whose behalf, and what is left to the caller.

use core::ops::Range;

use arrayvec::ArrayVec;

use super::devices::DeviceFrames;
use super::error::Stop;
use super::flush::{AtomicCpuSet, CpuSet, FlushClock};
use super::frame::FrameTable;
use super::pending::Pending;
use crate::addr::{DomainId, Mfn};

/// Entries that [`PageTableMem::are_zero`] looks at.
pub const ZEROS: usize = 8;

/// The seam to the contents of frames: page tables and descriptor pages, through the hypervisor's own mapping.
///
/// Frames asked for are RAM in use; indices are below [`ENTRIES`](PageTableMem::ENTRIES).
pub trait PageTableMem {
    /// Entries in a page. Tests use a smaller geometry, to get to the ends of tables sooner.
    const ENTRIES: usize = 512;
    /// The slots of an L4 table that are the hypervisor's.
    const HYPERVISOR_SLOTS: Range<usize> = 256..272;

    /// Reads one entry, with a single load.
    fn read(&self, page: Mfn, index: usize) -> u64;

    /// Whether [`ZEROS`] entries from `first` on are all 0.
    fn are_zero(&self, page: Mfn, first: usize) -> bool {
        (first..first + ZEROS).all(|index| self.read(page, index) == 0)
    }

    /// Writes one entry, with a single store.
    fn write(&self, page: Mfn, index: usize, value: u64);

    /// Replaces one entry with a locked instruction if it is still `old`; else returns what it is now.
    fn compare_exchange(&self, page: Mfn, index: usize, old: u64, new: u64) -> Result<(), u64>;

    /// Copies entries of one page to another, each with a single load and a single store.
    fn copy_entries(&self, to: Mfn, from: Mfn, entries: Range<usize>) {
        entries.for_each(|index| self.write(to, index, self.read(from, index)));
    }

    /// Fills [`HYPERVISOR_SLOTS`](PageTableMem::HYPERVISOR_SLOTS) of an L4 table that is about to become usable.
    fn write_hypervisor_slots(&self, l4: Mfn);

    /// Shows or hides the machine-to-phys table (the first hypervisor slot) in an L4 table.
    fn show_machine_to_phys(&self, l4: Mfn, visible: bool);
}

/// The machine: the same for all domains and CPUs.
#[derive(Debug)]
pub struct Mmu<'a, M> {
    /// The frame table.
    pub frames: FrameTable<'a>,
    /// When CPUs flushed.
    pub clock: &'a FlushClock,
    /// The contents of frames.
    pub memory: &'a M,
    /// All CPUs that run guests.
    pub online: CpuSet,
    /// On CPUs with L1TF: the first frame above all cacheable memory. Entries that are not present must name frames
    /// from there up, or frame 0.
    pub l1tf_limit: Option<Mfn>,
}

/// The domain whose tables an operation works on.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    /// The domain.
    pub domain: DomainId,
    /// The CPUs that may hold its translations; see [`AtomicCpuSet`].
    pub cpus: &'a AtomicCpuSet,
    /// The device frames it may map.
    pub devices: &'a DeviceFrames,
}

/// Frames whose last reference is gone: to be given to [`DomainFrames::retire`](super::owner::DomainFrames::retire).
pub type Freed = ArrayVec<Mfn, 32>;

/// Frames that one step may free at most: a handful of references, each its frame's last.
const STEP_FREES: usize = 8;

/// One vCPU's memory operations, in one hypercall: the rules are its methods.
///
/// Every method may return [`Stop::Flush`] or [`Stop::Again`] and is then to be called again with the same arguments.
/// It goes on where it stopped: tables that are half checked or half taken apart are remembered in [`Pending`].
#[derive(Debug)]
pub struct Operation<'a, M> {
    pub(super) mmu: &'a Mmu<'a, M>,
    pub(super) space: Space<'a>,
    pub(super) pending: &'a mut Pending,
    /// Page-table entries that may still be looked at before [`Stop::Again`].
    pub budget: u32,
}

impl<'a, M: PageTableMem> Operation<'a, M> {
    /// Operations for the vCPU that owns `pending`.
    #[inline]
    pub fn new(mmu: &'a Mmu<'a, M>, space: Space<'a>, pending: &'a mut Pending, budget: u32) -> Operation<'a, M> {
        Operation { mmu, space, pending, budget }
    }

    /// The contents of frames.
    pub fn memory(&self) -> &'a M {
        self.mmu.memory
    }

    /// The frame table.
    pub fn frames(&self) -> FrameTable<'a> {
        self.mmu.frames
    }

    /// The start of every operation: finishes what an earlier one left behind, and pays for this one.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        self.drain()?;
        self.spend()
    }

    /// Pays for one step.
    #[inline(always)]
    pub(super) fn spend(&mut self) -> Result<(), Stop> {
        if self.pending.freed.remaining_capacity() < STEP_FREES {
            return Err(Stop::Again);
        }
        self.pay()
    }

    /// Pays for one step that frees nothing.
    #[inline(always)]
    pub(super) fn pay(&mut self) -> Result<(), Stop> {
        self.budget = self.budget.checked_sub(1).ok_or(Stop::Again)?;
        Ok(())
    }
}
