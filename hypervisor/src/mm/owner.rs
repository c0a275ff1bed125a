//! The frames of a domain: how it gets them, gives them back, and loses them all when it dies.
//!
//! An *allocation* counts against the domain and comes with one reference, which the domain gives up with the frame.
//! Frames that are the domain's without being its allocation (shared with the hypervisor, or given back while somebody
//! still refers to them) are on a second list. A frame leaves the lists, and the domain, when its last reference is
//! dropped, wherever that happens: the rule that dropped it reports the frame, and [`DomainFrames::retire`] follows.

use super::buddy::FrameAllocator;
use super::error::{Refusal, Stop};
use super::flush::FlushClock;
use super::frame::FrameTable;
use super::list::FrameList;
use super::m2p::{self, MachineToPhys};
use super::operation::{Operation, PageTableMem};
use super::state::{State, Usage};
use crate::addr::{DomainId, Mfn};

/// All frames that a domain owns. Under the domain's memory lock.
#[derive(Debug)]
pub struct DomainFrames {
    domain: DomainId,
    allocated: FrameList,
    other: FrameList,
}

impl DomainFrames {
    /// No frames yet.
    pub const fn new(domain: DomainId) -> DomainFrames {
        DomainFrames { domain, allocated: FrameList::new(), other: FrameList::new() }
    }

    /// Frames that count against the domain. ABI: `XENMEM_current_reservation`.
    pub const fn allocated(&self) -> u64 {
        self.allocated.len()
    }

    /// Whether the domain owns nothing at all any more.
    pub const fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.other.is_empty()
    }

    /// Makes a frame, scrubbed and flushed, the domain's allocation.
    ///
    /// # Panics
    /// If the frame is not fresh from the allocator.
    pub fn assign(&mut self, table: &FrameTable<'_>, mfn: Mfn) {
        self.adopt(table, mfn, State::allocated());
        self.allocated.push(table, mfn);
    }

    /// Gives a frame that was [reclaimed](Operation::reclaim) from the domain back to it, neither scrubbed nor flushed.
    ///
    /// # Panics
    /// If somebody else has it by now.
    pub fn restore(&mut self, table: &FrameTable<'_>, mfn: Mfn) {
        self.adopt(table, mfn, State::restored());
        self.allocated.push(table, mfn);
    }

    /// Makes a frame of the hypervisor's (shared info, grant table) the domain's to map, but not to give back.
    ///
    /// The reference it comes with is the hypervisor's, which drops it with [`Operation::put_writable`].
    ///
    /// # Panics
    /// If the frame is not fresh from the allocator.
    pub fn share(&mut self, table: &FrameTable<'_>, mfn: Mfn) {
        self.adopt(table, mfn, State::shared());
        self.other.push(table, mfn);
    }

    /// Gives a frame whose last reference is gone back to the allocator.
    ///
    /// CPUs may still have translations of it: the stamp keeps them from mattering until the frame is used again.
    ///
    /// # Panics
    /// If the frame is not the domain's, or in use.
    pub fn retire(
        &mut self,
        table: &FrameTable<'_>,
        clock: &FlushClock,
        m2p: &impl MachineToPhys,
        allocator: &mut FrameAllocator,
        mfn: Mfn,
    ) {
        let frame = table.known(mfn);
        let state = frame.state();
        assert!(frame.owner() == Some(self.domain), "{mfn:?} is owned by {:?}", frame.owner());
        assert!(state.references() == 0 && !state.has_allocation(), "retiring {mfn:?} with {state:?}");
        self.other.remove(table, mfn);
        // Mappings that could only read held no type, so their end was not stamped.
        frame.stamp(clock.now());
        frame.set_owner(None);
        m2p::clear(m2p, mfn);
        allocator.free(table, mfn, 0, true);
    }

    fn adopt(&mut self, table: &FrameTable<'_>, mfn: Mfn, state: State) {
        let frame = table.known(mfn);
        assert!(frame.state() == State::IN_USE && frame.owner().is_none(), "{mfn:?} is {:?}", frame.state());
        frame.set_owner(Some(self.domain));
        frame.set_state(state);
    }
}

impl<M: PageTableMem> Operation<'_, M> {
    /// The domain gives a frame of its allocation up. ABI: `XENMEM_decrease_reservation`.
    ///
    /// It stops counting against the domain at once, and is freed when nobody refers to it any more, mostly at once.
    pub fn give_back(&mut self, frames: &mut DomainFrames, mfn: Mfn) -> Result<(), Stop> {
        self.begin()?;
        self.drop_allocation(frames, mfn)
    }

    /// Takes a frame away from the domain if it is in use for nothing at all. ABI: `XENMEM_exchange` input frames.
    ///
    /// The frame is then the hypervisor's, off the domain's lists and dirty; its stamp says which CPUs to flush before
    /// anybody else gets it.
    pub fn reclaim(&mut self, frames: &mut DomainFrames, mfn: Mfn) -> Result<(), Stop> {
        self.begin()?;
        let table = self.mmu.frames;
        let frame = table.get(mfn).filter(|frame| frame.owner() == Some(frames.domain));
        let frame = frame.ok_or_else(|| Stop::refuse(Refusal::NotOwned(mfn)))?;
        let state = frame.state();
        if !state.has_allocation() || state.references() != 1 {
            return Err(Stop::refuse(Refusal::NotAllocated(mfn)));
        }
        if frame.compare_exchange(state, State::IN_USE).is_err() {
            return Err(Stop::Again);
        }
        frame.stamp(self.mmu.clock.now());
        frame.set_owner(None);
        frames.allocated.remove(&table, mfn);
        Ok(())
    }

    /// Takes everything from a dying domain whose vCPUs run nowhere.
    ///
    /// Before: each vCPU's [`Operation::give_up`] and [`Operation::drop_roots`], and its descriptor pages, shared
    /// structures and grants put. After it returned `Ok`, what is left of [`DomainFrames`] is referred to by other
    /// domains, and is freed when those let go: types descend from level to level, so without roots and pins nothing
    /// can hold itself.
    pub fn tear_down(&mut self, frames: &mut DomainFrames) -> Result<(), Stop> {
        while let Some(mfn) = frames.allocated.first() {
            self.begin()?;
            self.drop_allocation(frames, mfn)?;
        }
        self.drain()
    }

    fn drop_allocation(&mut self, frames: &mut DomainFrames, mfn: Mfn) -> Result<(), Stop> {
        let table = self.mmu.frames;
        let frame = table.get(mfn).filter(|frame| {
            // Stable: owner and allocation reference only change under the lock that guards `frames`.
            frame.owner() == Some(frames.domain)
                && frame.state().usage() == Usage::InUse
                && frame.state().has_allocation()
        });
        let frame = frame.ok_or_else(|| Stop::refuse(Refusal::NotAllocated(mfn)))?;
        frames.allocated.remove(&table, mfn);
        frames.other.push(&table, mfn);
        loop {
            // Another vCPU may pin it again as long as the allocation reference is there.
            if let Some(kind) = self.clear_pin(mfn) {
                self.release(mfn, kind);
            }
            let old = frame.state();
            if !old.is_pinned() && frame.compare_exchange(old, old.given_back()).is_ok() {
                if old.references() == 1 {
                    self.pending.freed.push(mfn);
                }
                return Ok(());
            }
        }
    }
}
