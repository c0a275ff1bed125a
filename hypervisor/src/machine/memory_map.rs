//! The map of the machine's RAM, made from the boot loader's list of regions, and the first, crude frame allocator.
//!
//! Invariant: a list of [`Ranges`] is sorted, its ranges are not empty, and no two overlap or touch.

use arrayvec::ArrayVec;

use crate::addr::{MachineAddr, Mfn, PAGE_SIZE};

/// Most ranges kept. UEFI machines report some hundred regions, but their RAM falls into a few dozen ranges.
pub const MAX_RANGES: usize = 128;

/// Frames `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRange {
    /// The first frame.
    pub start: Mfn,
    /// The frame after the last.
    pub end: Mfn,
}

impl FrameRange {
    /// The `count` frames from `start`.
    pub const fn new(start: Mfn, count: u64) -> FrameRange {
        FrameRange { start, end: start.offset(count) }
    }

    /// The smallest range of whole frames that covers the bytes `start..end`.
    pub const fn covering(start: u64, end: u64) -> FrameRange {
        let end = end.saturating_add(PAGE_SIZE as u64 - 1);
        FrameRange { start: MachineAddr(start).frame(), end: MachineAddr(end).frame() }
    }

    /// The largest range of whole frames within the bytes `start..end`; may be empty.
    pub const fn within(start: u64, end: u64) -> FrameRange {
        let start = MachineAddr(start.saturating_add(PAGE_SIZE as u64 - 1)).frame();
        let end = MachineAddr(end).frame();
        FrameRange { start, end: if end.0 < start.0 { start } else { end } }
    }

    /// Number of frames.
    pub const fn frames(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Is there no frame in it?
    pub const fn is_empty(&self) -> bool {
        self.start.0 >= self.end.0
    }

    /// Is `mfn` one of the frames?
    pub const fn contains(&self, mfn: Mfn) -> bool {
        self.start.0 <= mfn.0 && mfn.0 < self.end.0
    }

    /// The frames that are also in `other`.
    pub fn intersection(&self, other: FrameRange) -> FrameRange {
        let start = self.start.max(other.start);
        FrameRange { start, end: self.end.min(other.end).max(start) }
    }
}

/// What a region of the boot loader's list is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// RAM that nobody uses.
    Free,
    /// RAM that holds the image, the archive, or data of the boot loader that we still need.
    Loaded,
    /// Not RAM, or RAM that the firmware keeps.
    Reserved,
}

/// A sorted list of disjoint ranges of frames.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ranges {
    list: ArrayVec<FrameRange, MAX_RANGES>,
    /// Frames left out because the list was full.
    lost: u64,
}

impl Ranges {
    /// An empty list.
    pub const fn new() -> Ranges {
        Ranges { list: ArrayVec::new_const(), lost: 0 }
    }

    /// Adds a range, merging it with those it overlaps or touches. When the list is full the smallest range is left
    /// out, and counted in [`Ranges::lost`].
    pub fn add(&mut self, mut range: FrameRange) {
        if range.is_empty() {
            return;
        }
        self.list.retain(|old| {
            let apart = old.end < range.start || range.end < old.start;
            if !apart {
                range = FrameRange { start: old.start.min(range.start), end: old.end.max(range.end) };
            }
            apart
        });
        if self.list.is_full() {
            let (smallest, frames) = self.smallest();
            self.lost += frames.min(range.frames());
            if frames >= range.frames() {
                return;
            }
            self.list.remove(smallest);
        }
        let at = self.list.partition_point(|old| old.start < range.start);
        self.list.insert(at, range);
    }

    /// Takes a range out; the list may not have held all of it, or any.
    pub fn remove(&mut self, range: FrameRange) {
        if range.is_empty() {
            return;
        }
        let old = core::mem::take(&mut self.list);
        for piece in old {
            // Cutting a hole makes two pieces of one, so the last piece may find the list full.
            let below = FrameRange { start: piece.start, end: piece.end.min(range.start) };
            let above = FrameRange { start: piece.start.max(range.end), end: piece.end };
            for rest in [below, above] {
                if !rest.is_empty() && self.list.try_push(rest).is_err() {
                    self.lost += rest.frames();
                }
            }
        }
    }

    /// Takes `frames` frames, the first of them a multiple of `align`, from the highest range below `limit` that has
    /// them.
    pub fn take(&mut self, frames: u64, align: u64, limit: Mfn) -> Option<Mfn> {
        let start = self.list.iter().rev().find_map(|range| {
            let top = range.end.min(limit).0.checked_sub(frames)?;
            let start = top - top % align.max(1);
            (start >= range.start.0).then_some(Mfn(start))
        })?;
        self.remove(FrameRange::new(start, frames));
        Some(start)
    }

    /// Is `mfn` in one of the ranges?
    pub fn contains(&self, mfn: Mfn) -> bool {
        self.list.iter().any(|range| range.contains(mfn))
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = FrameRange> + '_ {
        self.list.iter().copied()
    }

    /// Number of frames in all ranges.
    pub fn frames(&self) -> u64 {
        self.list.iter().map(FrameRange::frames).sum()
    }

    /// The frame after the highest one.
    pub fn end(&self) -> Mfn {
        self.list.last().map_or(Mfn(0), |range| range.end)
    }

    /// Frames left out because there were too many ranges.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn smallest(&self) -> (usize, u64) {
        let sizes = self.list.iter().map(FrameRange::frames).enumerate();
        sizes.min_by_key(|&(_, frames)| frames).unwrap_or((0, 0))
    }
}

/// The machine's RAM.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    /// All RAM that the hypervisor manages.
    pub ram: Ranges,
    /// The part of it that nobody uses yet.
    pub free: Ranges,
}

impl MemoryMap {
    /// Sorts out regions of bytes `(start, end, kind)`. They may overlap; what is said to be reserved by one region is
    /// reserved, whatever another says, and likewise for loaded. Frames from `limit` on are left out.
    pub fn new(regions: impl Iterator<Item = (u64, u64, RegionKind)> + Clone, limit: Mfn) -> MemoryMap {
        // An empty region says nothing, not even about the frame that its address lies in.
        let regions = regions.filter(|(start, end, _)| start < end);
        let mut map = MemoryMap::default();
        for (start, end, kind) in regions.clone().filter(|region| region.2 != RegionKind::Reserved) {
            let range = FrameRange::within(start, end).intersection(FrameRange { start: Mfn(0), end: limit });
            map.ram.add(range);
            if kind == RegionKind::Free {
                map.free.add(range);
            }
        }
        for (start, end, kind) in regions {
            let range = FrameRange::covering(start, end);
            if kind != RegionKind::Free {
                map.free.remove(range);
            }
            if kind == RegionKind::Reserved {
                map.ram.remove(range);
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 64;

    fn frames(ranges: &Ranges) -> BTreeSet<u64> {
        let mut last_end = None;
        let mut set = BTreeSet::new();
        for range in ranges.iter() {
            assert!(!range.is_empty());
            assert!(last_end.is_none_or(|end| end < range.start), "sorted, disjoint, merged");
            last_end = Some(range.end);
            set.extend(range.start.0..range.end.0);
        }
        set
    }

    fn kind() -> impl Strategy<Value = RegionKind> {
        prop_oneof![Just(RegionKind::Free), Just(RegionKind::Loaded), Just(RegionKind::Reserved)]
    }

    proptest! {
        /// Byte by byte, a frame is free if only free regions touch it and one of them covers it.
        #[test]
        fn the_map_agrees_with_a_model_by_frames(
            regions in prop::collection::vec((0u64..80 * 4, 0u64..20 * 4, kind()), 0..12)
        ) {
            // In quarters of a frame, so that many regions start and end inside one.
            let quarter = PAGE_SIZE as u64 / 4;
            let regions: Vec<_> =
                regions.into_iter().map(|(at, len, kind)| (at * quarter, (at + len) * quarter, kind)).collect();
            let map = MemoryMap::new(regions.iter().copied(), Mfn(LIMIT));
            let covers = |mfn: u64, (start, end, _): (u64, u64, RegionKind)|
                start <= mfn * 4096 && (mfn + 1) * 4096 <= end;
            let touches = |mfn: u64, (start, end, _): (u64, u64, RegionKind)|
                start < end && start < (mfn + 1) * 4096 && mfn * 4096 < end;
            for mfn in 0..LIMIT + 40 {
                let is = |kind, of: &dyn Fn(u64, (u64, u64, RegionKind)) -> bool|
                    regions.iter().any(|&region| region.2 == kind && of(mfn, region));
                let usable = mfn < LIMIT && !is(RegionKind::Reserved, &touches);
                let ram = usable && (is(RegionKind::Free, &covers) || is(RegionKind::Loaded, &covers));
                let free = usable && is(RegionKind::Free, &covers) && !is(RegionKind::Loaded, &touches);
                prop_assert_eq!(map.ram.contains(Mfn(mfn)), ram, "ram {}", mfn);
                prop_assert_eq!(map.free.contains(Mfn(mfn)), free, "free {}", mfn);
            }
            frames(&map.ram);
            frames(&map.free);
        }

        #[test]
        fn what_is_taken_was_free_and_is_gone(
            ranges in prop::collection::vec((0u64..200, 1u64..30), 1..10),
            takes in prop::collection::vec((1u64..20, 0u32..4, 50u64..250), 1..20),
        ) {
            let mut free = Ranges::new();
            let mut model = BTreeSet::new();
            for (start, count) in ranges {
                free.add(FrameRange::new(Mfn(start), count));
                model.extend(start..start + count);
            }
            for (count, shift, limit) in takes {
                let align = 1 << shift;
                let best = (0..limit).rev().filter(|start| start % align == 0)
                    .find(|&start| start + count <= limit && (start..start + count).all(|mfn| model.contains(&mfn)));
                prop_assert_eq!(free.take(count, align, Mfn(limit)), best.map(Mfn));
                if let Some(start) = best {
                    model.retain(|mfn| !(start..start + count).contains(mfn));
                }
                prop_assert_eq!(&frames(&free), &model);
                prop_assert_eq!(free.frames(), model.len() as u64);
            }
        }
    }

    #[test]
    fn a_full_list_leaves_out_the_smallest_and_says_so() {
        let mut ranges = Ranges::new();
        for n in 0..MAX_RANGES as u64 {
            ranges.add(FrameRange::new(Mfn(n * 10), 3));
        }
        ranges.add(FrameRange::new(Mfn(10_000), 2));
        assert_eq!((ranges.lost(), ranges.end()), (2, Mfn((MAX_RANGES as u64 - 1) * 10 + 3)));
        ranges.add(FrameRange::new(Mfn(20_000), 5));
        assert_eq!((ranges.lost(), ranges.end()), (5, Mfn(20_005)));
        assert_eq!(ranges.frames(), (MAX_RANGES as u64 - 1) * 3 + 5);
    }

    #[test]
    fn addresses_near_the_top_do_not_wrap() {
        let map = MemoryMap::new([(u64::MAX - 5, u64::MAX, RegionKind::Free)].into_iter(), Mfn(LIMIT));
        assert_eq!(map.ram.frames(), 0);
    }
}
