//! Pins: a guest keeps a table checked although no entry names it. ABI: `MMUEXT_PIN_L1_TABLE` to `UNPIN_TABLE`.
//!
//! A pin is a flag in the state word and one type reference that goes with it.

use super::error::{Refusal, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::{FrameType, Level, State};
use crate::addr::Mfn;

impl<M: PageTableMem> Operation<'_, M> {
    /// Checks the table and all below it, and keeps it so.
    pub fn pin(&mut self, mfn: Mfn, level: Level) -> Result<(), Stop> {
        self.begin()?;
        self.acquire_table(mfn, level)?;
        if self.set_pinned(mfn, true).is_none() {
            self.release(mfn, level.frame_type());
            return Err(Stop::refuse(Refusal::Pinned(mfn)));
        }
        Ok(())
    }

    /// Drops the pin. The table may be in use through other references; if not, it is taken apart.
    pub fn unpin(&mut self, mfn: Mfn) -> Result<(), Stop> {
        self.begin()?;
        if self.mmu.frames.get(mfn).is_none_or(|frame| frame.owner() != Some(self.space.domain)) {
            return Err(Stop::refuse(Refusal::NotOwned(mfn)));
        }
        let kind = self.set_pinned(mfn, false).ok_or(Stop::refuse(Refusal::NotPinned(mfn)))?;
        self.release(mfn, kind);
        Ok(())
    }

    /// Sets or clears the flag and returns the table's type; `None` if it was so already. Of two vCPUs that try at the
    /// same time one succeeds, and the pin's reference is that one's.
    pub(super) fn set_pinned(&self, mfn: Mfn, pinned: bool) -> Option<FrameType> {
        let frame = self.mmu.frames.get(mfn)?;
        let mut old = frame.state();
        while old.is_pinned() != pinned {
            let new: State = if pinned { old.pinned() } else { old.unpinned() };
            match frame.compare_exchange(old, new) {
                Ok(()) => return Some(new.frame_type()),
                Err(now) => old = now,
            }
        }
        None
    }
}
