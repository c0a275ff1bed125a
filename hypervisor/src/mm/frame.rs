//! The frame table: 24 bytes about each machine frame, shared by all CPUs without a lock.
//!
//! | word  | allocated                                           | free                                 |
//! |-------|-----------------------------------------------------|--------------------------------------|
//! | state | counts, type, flags ([`State`])                     | order and dirtiness in a block's head |
//! | tag   | owner (high 16 bits), last-use [`Stamp`] (low 48)   | stamp of the last owner's use        |
//! | links | neighbours in the owner's list                      | neighbours in the free list           |
//!
//! The state and tag words are changed by compare-exchange from any CPU. The links belong to whoever holds the lock
//! of the list the frame is on. Zeroed memory is a valid table that says "reserved" everywhere.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::flush::Stamp;
use super::state::{State, Usage};
use crate::addr::{DomainId, Mfn};

/// What is known about one machine frame.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    state: AtomicU64,
    tag: AtomicU64,
    next: AtomicU32,
    prev: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 24);

/// A link that leads nowhere. Frame numbers stay below it ([`FrameTable::new`] asserts that).
pub(super) const NO_LINK: u32 = u32::MAX;

const OWNER_SHIFT: u32 = 48;
const STAMP_MASK: u64 = (1 << OWNER_SHIFT) - 1;

impl Frame {
    /// A reserved frame; all bytes zero.
    #[expect(clippy::declare_interior_mutable_const, reason = "made for initialising arrays: each use is a new frame")]
    pub const ZERO: Frame =
        Frame { state: AtomicU64::new(0), tag: AtomicU64::new(0), next: AtomicU32::new(0), prev: AtomicU32::new(0) };

    /// The state word as it is now.
    pub fn state(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    /// The domain the frame is allocated to; `None` for free frames and the hypervisor's own.
    ///
    /// The owner is stable while the caller holds a reference.
    pub fn owner(&self) -> Option<DomainId> {
        u16::try_from(self.tag.load(Ordering::Acquire) >> OWNER_SHIFT).ok()?.checked_sub(1).map(DomainId)
    }

    /// Whether the frame is allocated to `domain`.
    pub fn is_owned_by(&self, domain: DomainId) -> bool {
        self.tag.load(Ordering::Acquire) >> OWNER_SHIFT == u64::from(domain.0) + 1
    }

    /// The latest moment at which a translation of this frame may have been taken away from a guest.
    pub fn last_use(&self) -> Stamp {
        Stamp(self.tag.load(Ordering::SeqCst) & STAMP_MASK)
    }

    /// Replaces the state if it is still `old`; else returns what it is now.
    pub(super) fn compare_exchange(&self, old: State, new: State) -> Result<(), State> {
        match self.state.compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(()),
            Err(now) => Err(State(now)),
        }
    }

    /// Sets the state of a frame that nobody else may be changing: free, or not yet visible to a domain.
    pub(super) fn set_state(&self, state: State) {
        self.state.store(state.0, Ordering::Release);
    }

    /// Names the owner (or none). Only while there are no references.
    pub(super) fn set_owner(&self, owner: Option<DomainId>) {
        let owner = owner.map_or(0, |id| u64::from(id.0) + 1);
        let stamp = self.tag.load(Ordering::Relaxed) & STAMP_MASK;
        self.tag.store(owner << OWNER_SHIFT | stamp, Ordering::Release);
    }

    /// Moves the last-use stamp forward to `now`, never back, whatever other CPUs do at the same time.
    #[inline]
    pub(super) fn stamp(&self, now: Stamp) {
        let tag = self.tag.load(Ordering::Relaxed);
        // The clock stands still between full flushes, so that the expensive part is seldom needed.
        if tag & STAMP_MASK < now.0 {
            // The owner is the same in both, so the larger tag is the one with the later stamp.
            self.tag.fetch_max((tag & !STAMP_MASK) | now.0, Ordering::SeqCst);
        }
    }

    pub(super) fn next(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    pub(super) fn set_next(&self, link: u32) {
        self.next.store(link, Ordering::Relaxed);
    }

    pub(super) fn prev(&self) -> u32 {
        self.prev.load(Ordering::Relaxed)
    }

    pub(super) fn set_prev(&self, link: u32) {
        self.prev.store(link, Ordering::Relaxed);
    }
}

/// The metadata of all frames from `first` up; cheap to copy, usable from every CPU.
#[derive(Clone, Copy, Debug)]
pub struct FrameTable<'a> {
    frames: &'a [Frame],
    first: u64,
}

impl<'a> FrameTable<'a> {
    /// `frames[i]` describes frame `first + i`.
    ///
    /// # Panics
    /// If a frame number would not fit in a link (2^32 - 1 frames, 16 TiB).
    pub const fn new(frames: &'a [Frame], first: Mfn) -> FrameTable<'a> {
        assert!(first.0 <= NO_LINK as u64 && frames.len() as u64 <= NO_LINK as u64 - first.0);
        FrameTable { frames, first: first.0 }
    }

    /// The metadata of `mfn`; `None` outside the table. Any number may be asked for.
    #[inline]
    pub fn get(&self, mfn: Mfn) -> Option<&'a Frame> {
        // A number below the first becomes one that is far too large.
        self.frames.get(usize::try_from(mfn.0.wrapping_sub(self.first)).ok()?)
    }

    /// The metadata of `mfn`; `None` if it [is no RAM](FrameTable::is_device).
    #[inline]
    pub(super) fn ram(&self, mfn: Mfn) -> Option<&'a Frame> {
        self.get(mfn).filter(|frame| frame.state().usage() != Usage::Device)
    }

    /// The first frame number above the table.
    pub const fn end(&self) -> Mfn {
        Mfn(self.first + self.frames.len() as u64)
    }

    /// Says that `count` frames from `start` are device memory, which privileged domains may be allowed to map.
    ///
    /// Frames above the table's end are device memory anyhow. Boot calls this, before any domain exists.
    ///
    /// # Panics
    /// If a frame in the range is already in use or free RAM.
    pub fn mark_device(&self, start: Mfn, count: u64) {
        for n in 0..count {
            let Some(frame) = self.get(start.offset(n)) else { return };
            assert!(
                matches!(frame.state().usage(), Usage::Reserved | Usage::Device),
                "{:?} is RAM in use",
                start.offset(n)
            );
            frame.set_state(State::DEVICE);
        }
    }

    /// Lets the control domain map `count` frames from `start`, which are the hypervisor's own, for reading. It names
    /// [`DomainId::HYPERVISOR`] as their owner.
    ///
    /// Boot calls this, before any domain exists.
    ///
    /// # Panics
    /// If one of the frames isn't the hypervisor's.
    pub fn show_read_only(&self, start: Mfn, count: u64) {
        for n in 0..count {
            let frame = self.known(start.offset(n));
            assert!(frame.state() == State::RESERVED, "{:?} is not the hypervisor's", start.offset(n));
            frame.set_owner(Some(DomainId::HYPERVISOR));
            frame.set_state(State::read_only());
        }
    }

    /// Whether `mfn` is no RAM: outside the table or marked as device memory.
    pub fn is_device(&self, mfn: Mfn) -> bool {
        self.ram(mfn).is_none()
    }

    /// The metadata of a frame that one of our own structures names.
    ///
    /// # Panics
    /// Outside the table: then that structure is corrupt.
    #[inline]
    pub(super) fn known(&self, mfn: Mfn) -> &'a Frame {
        self.get(mfn).unwrap_or_else(|| panic!("{mfn:?} is outside the frame table"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zeroed_frame_is_reserved_and_unowned() {
        let frame = Frame::ZERO;
        assert_eq!(frame.state(), State::RESERVED);
        assert_eq!(frame.owner(), None);
        assert_eq!(frame.last_use(), Stamp::NEVER);
    }

    #[test]
    fn owner_and_stamp_share_a_word_without_touching_each_other() {
        let frame = Frame::ZERO;
        frame.set_owner(Some(DomainId(0)));
        frame.stamp(Stamp(7));
        frame.stamp(Stamp(3));
        assert_eq!((frame.owner(), frame.last_use()), (Some(DomainId(0)), Stamp(7)));
        frame.set_owner(Some(DomainId(0x7fef)));
        assert_eq!((frame.owner(), frame.last_use()), (Some(DomainId(0x7fef)), Stamp(7)));
        frame.set_owner(None);
        assert_eq!((frame.owner(), frame.last_use()), (None, Stamp(7)));
    }

    #[test]
    fn lookups_outside_the_table_find_nothing() {
        let frames = [const { Frame::ZERO }; 4];
        let table = FrameTable::new(&frames, Mfn(16));
        for outside in [0, 15, 20, u64::MAX] {
            assert!(table.get(Mfn(outside)).is_none());
            assert!(table.is_device(Mfn(outside)));
        }
        assert!(table.get(Mfn(16)).is_some() && table.get(Mfn(19)).is_some());
        table.mark_device(Mfn(18), 9);
        assert!(!table.is_device(Mfn(17)) && table.is_device(Mfn(18)));
    }
}
