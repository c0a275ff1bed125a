//! The buddy allocator: all RAM that nobody owns, in aligned blocks of 2^order frames.
//!
//! Free lists run through the frame table, and only the head of a block is written to, so adding a range at boot
//! touches a handful of frames however large it is. Memory below 4 GiB is a zone of its own that is used last,
//! because some devices can reach no other.
//!
//! *Dirty* blocks hold what a domain or the boot loader left there: whoever allocates one scrubs it, or overwrites all
//! of it, before another domain can see it. A merged block is dirty if either half was.
//!
//! Every frame in a block that is handed out is marked in use, so freeing a frame twice, or one that was never handed
//! out, or one that somebody still refers to, is caught. All asserts here are about our own callers.

use super::flush::Stamp;
use super::frame::FrameTable;
use super::list::FrameList;
use super::state::{State, Usage};
use crate::addr::Mfn;

/// The largest block: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u8 = 18;

const ORDERS: usize = MAX_ORDER as usize + 1;

/// First frame above the low zone: 4 GiB.
const HIGH_START: u64 = 1 << (32 - 12);

/// A block that was handed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// Its first frame.
    pub mfn: Mfn,
    /// Whether it must be scrubbed before a domain sees it.
    pub dirty: bool,
    /// CPUs that have not flushed since may hold an earlier owner's translations of it. They must be flushed
    /// ([`FlushClock::stale`](super::flush::FlushClock::stale) over all CPUs) before anything secret is put there
    /// and before another domain gets it.
    pub last_use: Stamp,
}

/// The free blocks of one range of addresses.
#[derive(Debug)]
struct Zone {
    lists: [FrameList; ORDERS],
    /// Bit n is set if there is a free block of order n.
    filled: u32,
}

/// All free RAM. Its lock is left to the owner; every call passes the same frame table.
#[derive(Debug)]
pub struct FrameAllocator {
    low: Zone,
    high: Zone,
    free: u64,
    total: u64,
}

impl FrameAllocator {
    /// An allocator with no memory.
    pub const fn new() -> FrameAllocator {
        FrameAllocator { low: Zone::new(), high: Zone::new(), free: 0, total: 0 }
    }

    /// Frames that are free.
    pub const fn free_frames(&self) -> u64 {
        self.free
    }

    /// Frames that were ever added.
    pub const fn total_frames(&self) -> u64 {
        self.total
    }

    /// Adds RAM from the boot memory map. It counts as dirty: firmware and boot loader used it.
    ///
    /// Frame 0 is left out: the ABI uses that number for "none".
    ///
    /// # Panics
    /// If the range leaves the frame table or a block in it starts with a frame that is not reserved.
    pub fn add_range(&mut self, table: &FrameTable<'_>, start: Mfn, count: u64) {
        let end = start.0 + count;
        assert!(end <= table.end().0, "RAM above the frame table");
        let mut next = start.0.max(1);
        while next < end {
            let order = largest_block(next, end);
            self.total += 1 << order;
            self.insert(table, Mfn(next), order, true);
            next += 1 << order;
        }
    }

    /// Takes a block of `2^order` frames; `None` if there is none. Memory above 4 GiB goes first.
    pub fn alloc(&mut self, table: &FrameTable<'_>, order: u8) -> Option<Allocation> {
        let found = self.high.take(table, order).or_else(|| self.low.take(table, order))?;
        Some(self.hand_out(table, found, order))
    }

    /// Takes a block of `2^order` frames below 4 GiB.
    pub fn alloc_below_4g(&mut self, table: &FrameTable<'_>, order: u8) -> Option<Allocation> {
        let found = self.low.take(table, order)?;
        Some(self.hand_out(table, found, order))
    }

    /// Takes a frame of which no CPU can have a translation; `None` if the one that [`alloc`](Self::alloc) would give isn't
    /// of that kind.
    pub fn alloc_untouched(&mut self, table: &FrameTable<'_>) -> Option<Mfn> {
        let block = self.alloc(table, 0)?;
        if block.last_use == Stamp::NEVER {
            return Some(block.mfn);
        }
        self.free(table, block.mfn, 0, block.dirty);
        None
    }

    /// Gives back a block, or any aligned part of one, that nobody refers to any more.
    ///
    /// `dirty` says that it holds a domain's data; only memory that was scrubbed and never shown to a domain is clean.
    ///
    /// # Panics
    /// If a frame in it is not in use, still has an owner or references, or the block is misaligned.
    pub fn free(&mut self, table: &FrameTable<'_>, mfn: Mfn, order: u8, dirty: bool) {
        assert!(order <= MAX_ORDER && mfn.0.trailing_zeros() >= u32::from(order), "misaligned block at {mfn:?}");
        for n in 0..1 << order {
            let frame = table.known(mfn.offset(n));
            let state = frame.state();
            assert!(state.usage() == Usage::InUse, "freeing {:?}, which is {state:?}", mfn.offset(n));
            assert!(state.references() == 0 && state.type_references() == 0, "{:?} has {state:?}", mfn.offset(n));
            assert!(frame.owner().is_none(), "freeing {:?}, which {:?} owns", mfn.offset(n), frame.owner());
            frame.set_state(State::RESERVED);
        }
        self.insert(table, mfn, order, dirty);
    }

    /// Makes a block free, joined with its free neighbours as far as that goes.
    fn insert(&mut self, table: &FrameTable<'_>, mfn: Mfn, order: u8, dirty: bool) {
        assert!(table.known(mfn).state() == State::RESERVED, "{mfn:?} is already free or in use");
        self.free += 1 << order;
        let zone = self.zone(mfn);
        let (mut mfn, mut order, mut dirty) = (mfn, order, dirty);
        while order < MAX_ORDER {
            let buddy = Mfn(mfn.0 ^ (1 << order));
            let Some(frame) = table.get(buddy) else { break };
            let Some((buddy_order, buddy_dirty)) = frame.state().free_block() else { break };
            if buddy_order != order {
                break;
            }
            zone.remove(table, buddy, order);
            frame.set_state(State::RESERVED);
            mfn = mfn.min(buddy);
            order += 1;
            dirty |= buddy_dirty;
        }
        zone.put(table, mfn, order, dirty);
    }

    /// Marks the frames of a block in use, and finds the latest use of any.
    fn hand_out(&mut self, table: &FrameTable<'_>, (mfn, dirty): (Mfn, bool), order: u8) -> Allocation {
        self.free -= 1 << order;
        let mut last_use = Stamp::NEVER;
        for n in 0..1 << order {
            let frame = table.known(mfn.offset(n));
            frame.set_state(State::IN_USE);
            last_use = last_use.max(frame.last_use());
        }
        Allocation { mfn, dirty, last_use }
    }

    fn zone(&mut self, mfn: Mfn) -> &mut Zone {
        // No block crosses the border: it is aligned to the largest block.
        if mfn.0 < HIGH_START { &mut self.low } else { &mut self.high }
    }
}

impl Default for FrameAllocator {
    fn default() -> FrameAllocator {
        FrameAllocator::new()
    }
}

impl Zone {
    const fn new() -> Zone {
        Zone { lists: [const { FrameList::new() }; ORDERS], filled: 0 }
    }

    /// Takes the smallest block that is large enough and puts back what is left over, upper halves first.
    fn take(&mut self, table: &FrameTable<'_>, order: u8) -> Option<(Mfn, bool)> {
        if order > MAX_ORDER {
            return None;
        }
        let fitting = self.filled & (u32::MAX << order);
        let found = u8::try_from(fitting.trailing_zeros()).ok().filter(|order| *order <= MAX_ORDER)?;
        let mfn = self.lists[usize::from(found)].first()?;
        let (_, dirty) = table.known(mfn).state().free_block()?;
        self.remove(table, mfn, found);
        for left in (order..found).rev() {
            self.put(table, mfn.offset(1 << left), left, dirty);
        }
        Some((mfn, dirty))
    }

    fn put(&mut self, table: &FrameTable<'_>, mfn: Mfn, order: u8, dirty: bool) {
        table.known(mfn).set_state(State::free_head(order, dirty));
        self.lists[usize::from(order)].push(table, mfn);
        self.filled |= 1 << order;
    }

    fn remove(&mut self, table: &FrameTable<'_>, mfn: Mfn, order: u8) {
        let list = &mut self.lists[usize::from(order)];
        list.remove(table, mfn);
        if list.is_empty() {
            self.filled &= !(1 << order);
        }
    }
}

/// Order of the largest aligned block that starts at `start` and does not pass `end`.
fn largest_block(start: u64, end: u64) -> u8 {
    let aligned = start.trailing_zeros();
    let fits = (end - start).ilog2();
    u8::try_from(aligned.min(fits)).unwrap_or(MAX_ORDER).min(MAX_ORDER)
}

#[cfg(test)]
#[path = "tests/buddy.rs"]
mod tests;
