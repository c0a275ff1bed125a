//! The buddy allocator against a model that is just a set of frames.
#![allow(clippy::cast_possible_truncation, reason = "the host has 64-bit pointers")]

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::DomainId;
use crate::mm::frame::Frame;

const FRAMES: u64 = 300;

fn frames(count: u64) -> Vec<Frame> {
    (0..count).map(|_| Frame::ZERO).collect()
}

/// The free blocks as the table shows them: start -> (order, dirty).
fn free_blocks(table: &FrameTable<'_>) -> BTreeMap<u64, (u8, bool)> {
    (0..table.end().0).filter_map(|n| Some((n, table.get(Mfn(n))?.state().free_block()?))).collect()
}

#[test]
fn a_large_range_touches_only_block_heads() {
    let metadata = frames(1 << 19);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(0), 1 << 19);
    assert_eq!(buddy.total_frames(), (1 << 19) - 1);
    // Frame 0 is left out, so 1, 2, 4, ... up to half of the first GiB, then a whole one.
    assert_eq!(free_blocks(&table).len(), 19);
    let block = buddy.alloc(&table, MAX_ORDER).unwrap();
    assert_eq!((block.mfn, block.dirty), (Mfn(1 << 18), true));
    assert!(buddy.alloc(&table, MAX_ORDER).is_none());
    assert!(buddy.alloc(&table, MAX_ORDER + 1).is_none() && buddy.alloc(&table, u8::MAX).is_none());
}

#[test]
fn low_memory_is_kept_for_those_who_ask() {
    let first = HIGH_START - 64;
    let metadata = frames(128);
    let table = FrameTable::new(&metadata, Mfn(first));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(first), 128);
    for _ in 0..64 {
        assert!(buddy.alloc(&table, 0).unwrap().mfn.0 >= HIGH_START);
    }
    assert!(buddy.alloc_below_4g(&table, 6).unwrap().mfn == Mfn(first));
    assert!(buddy.alloc(&table, 0).is_none());
}

#[test]
fn a_block_can_be_given_back_in_parts() {
    let metadata = frames(64);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(32), 32);
    let block = buddy.alloc(&table, 5).unwrap();
    for n in 0..32 {
        buddy.free(&table, block.mfn.offset(n), 0, false);
    }
    assert_eq!(buddy.alloc(&table, 5), Some(Allocation { mfn: Mfn(32), dirty: false, last_use: Stamp::NEVER }));
}

#[test]
fn the_latest_use_of_any_frame_comes_with_the_block() {
    let metadata = frames(8);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(4), 4);
    metadata[6].stamp(Stamp(9));
    assert_eq!(buddy.alloc(&table, 2).unwrap().last_use, Stamp(9));
}

#[test]
fn a_frame_that_a_tlb_may_know_is_not_untouched() {
    let metadata = frames(4);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(2), 2);
    let first = buddy.alloc_untouched(&table).unwrap();
    // It was a domain's for a while.
    metadata[first.0 as usize].stamp(Stamp(9));
    buddy.free(&table, first, 0, true);
    let mut others = Vec::new();
    while let Some(mfn) = buddy.alloc_untouched(&table) {
        others.push(mfn);
    }
    assert!(!others.contains(&first));
    assert_eq!((buddy.free_frames(), buddy.alloc(&table, 0).unwrap().mfn), (2 - others.len() as u64, first));
}

#[test]
#[should_panic(expected = "freeing Mfn(0x5)")]
fn a_double_free_is_caught() {
    let metadata = frames(8);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(4), 4);
    let block = buddy.alloc(&table, 2).unwrap();
    buddy.free(&table, block.mfn.offset(1), 0, true);
    buddy.free(&table, block.mfn, 2, true);
}

#[test]
#[should_panic(expected = "which Some(DomainId(3)) owns")]
fn freeing_an_owned_frame_is_caught() {
    let metadata = frames(8);
    let table = FrameTable::new(&metadata, Mfn(0));
    let mut buddy = FrameAllocator::new();
    buddy.add_range(&table, Mfn(4), 4);
    let block = buddy.alloc(&table, 0).unwrap();
    table.known(block.mfn).set_owner(Some(DomainId(3)));
    buddy.free(&table, block.mfn, 0, true);
}

#[derive(Clone, Debug)]
enum Action {
    Alloc { order: u8 },
    Free { which: usize, scrubbed: bool },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0u8..7).prop_map(|order| Action::Alloc { order }),
        (any::<usize>(), any::<bool>()).prop_map(|(which, scrubbed)| Action::Free { which, scrubbed }),
    ]
}

/// Frames in the ranges, whether they hold data, and who has them.
struct Model {
    dirty: Vec<bool>,
    held: Vec<(Mfn, u8)>,
}

impl Model {
    fn is_held(&self, n: u64) -> bool {
        self.held.iter().any(|(mfn, order)| (mfn.0..mfn.0 + (1 << order)).contains(&n))
    }

    fn allocated(&mut self, found: Allocation, order: u8) {
        assert_eq!(found.mfn.0 % (1 << order), 0);
        for n in found.mfn.0..found.mfn.0 + (1 << order) {
            assert!(!self.is_held(n), "frame {n} handed out twice");
            assert!(found.dirty || !self.dirty[n as usize], "frame {n} passed off as clean");
        }
        self.held.push((found.mfn, order));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_are_handed_out_once_and_join_again(
        hole in 1..FRAMES - 1,
        actions in prop::collection::vec(action(), 1..400),
    ) {
        let metadata = frames(FRAMES);
        let table = FrameTable::new(&metadata, Mfn(0));
        let mut buddy = FrameAllocator::new();
        buddy.add_range(&table, Mfn(0), hole);
        buddy.add_range(&table, Mfn(hole + 1), FRAMES - hole - 1);
        let start = free_blocks(&table);
        let total = FRAMES - 2;
        prop_assert_eq!(buddy.total_frames(), total);
        let mut model = Model { dirty: std::vec![true; FRAMES as usize], held: Vec::new() };
        for action in actions {
            match action {
                Action::Alloc { order } => match buddy.alloc(&table, order) {
                    Some(found) => model.allocated(found, order),
                    None => prop_assert!(free_blocks(&table).values().all(|(have, _)| *have < order)),
                },
                Action::Free { which, scrubbed } if !model.held.is_empty() => {
                    let (mfn, order) = model.held.swap_remove(which % model.held.len());
                    model.dirty[mfn.0 as usize..][..1 << order].fill(!scrubbed);
                    buddy.free(&table, mfn, order, !scrubbed);
                }
                Action::Free { .. } => {}
            }
            let held: u64 = model.held.iter().map(|(_, order)| 1 << order).sum();
            prop_assert_eq!(buddy.free_frames(), total - held);
            let free: u64 = free_blocks(&table).values().map(|(order, _)| 1u64 << order).sum();
            prop_assert_eq!(free, total - held);
            prop_assert!(!model.is_held(0) && !model.is_held(hole));
        }
        for (mfn, order) in model.held.drain(..) {
            buddy.free(&table, mfn, order, true);
        }
        let end: Vec<_> = free_blocks(&table).into_iter().map(|(at, (order, _))| (at, order)).collect();
        let start: Vec<_> = start.into_iter().map(|(at, (order, _))| (at, order)).collect();
        prop_assert_eq!(start, end);
    }
}
