//! Frames for the first page tables and everything else that comes before the frame allocator.

use crate::addr::Mfn;
use crate::machine::{FrameRange, Ranges};

/// Frames of a large page; single frames are cut from blocks of as many.
const BLOCK: u64 = 512;
/// No limit to where frames may lie.
const ANYWHERE: Mfn = Mfn(u64::MAX);

/// Hands out frames from the top of memory, so that what lies below 4 GiB is left for those who need it.
pub(super) struct Pool<'a> {
    free: &'a mut Ranges,
    block: FrameRange,
}

impl<'a> Pool<'a> {
    pub fn new(free: &'a mut Ranges) -> Pool<'a> {
        Pool { free, block: FrameRange::new(Mfn(0), 0) }
    }

    /// A frame.
    pub fn take(&mut self) -> Option<Mfn> {
        if self.block.is_empty() {
            let start = self.free.take(BLOCK, BLOCK, ANYWHERE);
            self.block = match start {
                Some(start) => FrameRange::new(start, BLOCK),
                None => FrameRange::new(self.free.take(1, 1, ANYWHERE)?, 1),
            };
        }
        self.block.end.0 -= 1;
        Some(self.block.end)
    }

    /// A large page.
    pub fn take_large(&mut self) -> Option<Mfn> {
        self.free.take(BLOCK, BLOCK, ANYWHERE)
    }

    /// `count` consecutive frames.
    pub fn take_together(&mut self, count: u64) -> Option<Mfn> {
        self.free.take(count, 1, ANYWHERE)
    }
}

impl Drop for Pool<'_> {
    /// Gives back what is left of the last block.
    fn drop(&mut self) {
        self.free.add(self.block);
    }
}
