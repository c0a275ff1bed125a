//! Giving frames to a domain and taking them back when it is gone.

use super::buddy::FrameAllocator;
use super::frame::FrameTable;
use super::state::State;
use crate::addr::{DomainId, Mfn};

/// Makes `domain` the owner of `count` frames that the allocator handed out and that nobody refers to.
///
/// # Panics
/// If a frame is outside the table: the allocator doesn't hand out such.
pub fn give(table: &FrameTable<'_>, mfn: Mfn, count: u64, domain: DomainId) {
    for n in 0..count {
        let frame = table.known(mfn.offset(n));
        frame.set_owner(Some(domain));
        frame.set_state(State::allocated());
    }
}

/// Takes a block of `2^order` frames from its owner, whose last vCPU is gone, and makes it free memory.
///
/// # Panics
/// If a frame is outside the table.
pub fn take_back(table: &FrameTable<'_>, allocator: &mut FrameAllocator, mfn: Mfn, order: u8) {
    for n in 0..1 << order {
        let frame = table.known(mfn.offset(n));
        frame.set_owner(None);
        frame.set_state(State::IN_USE);
    }
    allocator.free(table, mfn, order, true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::frame::Frame;

    #[test]
    fn frames_come_back_dirty_and_without_owner() {
        let frames = [const { Frame::ZERO }; 64];
        let table = FrameTable::new(&frames, Mfn(0));
        let mut allocator = FrameAllocator::new();
        allocator.add_range(&table, Mfn(16), 48);
        let block = allocator.alloc(&table, 4).unwrap();
        give(&table, block.mfn, 16, DomainId(3));
        assert!(table.get(block.mfn.offset(15)).unwrap().owner() == Some(DomainId(3)));
        // Back in two parts.
        take_back(&table, &mut allocator, block.mfn, 3);
        take_back(&table, &mut allocator, block.mfn.offset(8), 3);
        assert_eq!(allocator.free_frames(), allocator.total_frames());
        assert!(allocator.alloc(&table, 4).unwrap().dirty);
    }
}
