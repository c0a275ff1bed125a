//! Pins: a guest keeps a table checked although no entry names it. ABI: `MMUEXT_PIN_L1_TABLE` to `UNPIN_TABLE`.
//!
//! A pin is a flag in the state word and one type reference that goes with it. Only frames of the domain's allocation
//! can be pinned, and giving a frame back unpins it: so a dying domain finds all its pins on its list of allocations.

use super::error::{Refusal, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::{FrameType, Level};
use crate::addr::Mfn;

impl<M: PageTableMem> Operation<'_, M> {
    /// Checks the table and all below it, and keeps it so.
    pub fn pin(&mut self, mfn: Mfn, level: Level) -> Result<(), Stop> {
        self.begin()?;
        self.acquire_table(mfn, level)?;
        self.set_pin(mfn).map_err(|why| {
            self.release(mfn, level.frame_type());
            Stop::refuse(why)
        })
    }

    /// Drops the pin. The table may be in use through other references; if not, it is taken apart.
    pub fn unpin(&mut self, mfn: Mfn) -> Result<(), Stop> {
        self.begin()?;
        if self.mmu.frames.get(mfn).is_none_or(|frame| frame.owner() != Some(self.space.domain)) {
            return Err(Stop::refuse(Refusal::NotOwned(mfn)));
        }
        let kind = self.clear_pin(mfn).ok_or_else(|| Stop::refuse(Refusal::NotPinned(mfn)))?;
        self.release(mfn, kind);
        Ok(())
    }

    /// Turns a type reference that the caller holds into the pin's.
    fn set_pin(&self, mfn: Mfn) -> Result<(), Refusal> {
        let frame = self.mmu.frames.known(mfn);
        let mut old = frame.state();
        loop {
            if old.is_pinned() {
                return Err(Refusal::Pinned(mfn));
            }
            if !old.has_allocation() {
                return Err(Refusal::NotAllocated(mfn));
            }
            match frame.compare_exchange(old, old.pinned()) {
                Ok(()) => return Ok(()),
                Err(now) => old = now,
            }
        }
    }

    /// Turns the pin's type reference into the caller's and says of what type; `None` if there is no pin. Of two vCPUs
    /// that unpin at the same time one gets it.
    pub(super) fn clear_pin(&self, mfn: Mfn) -> Option<FrameType> {
        let frame = self.mmu.frames.known(mfn);
        let mut old = frame.state();
        while old.is_pinned() {
            match frame.compare_exchange(old, old.unpinned()) {
                Ok(()) => return Some(old.frame_type()),
                Err(now) => old = now,
            }
        }
        None
    }
}
