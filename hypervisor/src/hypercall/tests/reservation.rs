//! `memory_op`: giving frames back and getting others.

use super::fake::{FRAMES, Failing, MAX_FRAMES};
use super::requests::*;
use super::world::*;
use super::*;
use crate::mm::m2p::INVALID_ENTRY;
use crate::mm::operation::PageTableMem;
use crate::mm::state::FrameType;
use pv_abi::memory::{
    MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};
use pv_abi::mmu::MMUEXT_PIN_L4_TABLE;
use std::vec::Vec;

const DECREASE: u64 = XENMEM_DECREASE_RESERVATION as u64;
const INCREASE: u64 = XENMEM_INCREASE_RESERVATION as u64;
const POPULATE: u64 = XENMEM_POPULATE_PHYSMAP as u64;

impl World<'_> {
    /// Changes the reservation; the number of extents done.
    fn change(&mut self, command: u64, request: MemoryReservation, numbers: &[u64]) -> i64 {
        self.put_extents(request, numbers);
        self.result(number::MEMORY_OP, &[command, REQUEST])
    }

    fn allocated(&self) -> u64 {
        self.fake.frames().run(|frames| frames.allocated())
    }

    fn inputs(&self, count: u64) -> Vec<u64> {
        (0..count).map(|n| self.fake.word(INPUTS + 8 * n)).collect()
    }
}

#[test]
fn frames_are_given_back() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (free, mfns) = (world.fake.allocator.free_frames(), [world.mfn(DATA + 6).0, world.mfn(DATA + 7).0]);
    assert_eq!(world.change(DECREASE, extents(INPUTS, 2, 0), &mfns), 2);
    assert_eq!((world.allocated(), world.fake.allocator.free_frames()), (FRAMES - 2, free + 2));
    assert_eq!(world.change(DECREASE, extents(INPUTS, 2, 0), &mfns), 0, "only once");
}

#[test]
fn a_frame_in_use_is_freed_when_nobody_uses_it() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (free, mfn) = (world.fake.allocator.free_frames(), world.mfn(DATA).0);
    assert_eq!(world.change(DECREASE, extents(INPUTS, 1, 0), &[mfn]), 1);
    assert_eq!((world.allocated(), world.fake.allocator.free_frames()), (FRAMES - 1, free));
    assert_eq!(world.change(DECREASE, extents(INPUTS, 1, 0), &[mfn]), 0);
    assert_eq!(world.mmu_update(&[(world.at(L1, 0), 0)]), (0, 1));
    assert_eq!(world.fake.allocator.free_frames(), free + 1);
}

#[test]
fn a_pinned_table_is_taken_apart_when_it_is_given_back() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (free, l4) = (world.fake.allocator.free_frames(), world.mfn(OTHER_L4).0);
    assert_eq!(world.operate(MMUEXT_PIN_L4_TABLE, l4, 0), 0);
    assert_eq!(world.change(DECREASE, extents(INPUTS, 1, 0), &[l4]), 1);
    assert_eq!([OTHER_L3, OTHER_L2, OTHER_L1].map(|pfn| world.kind(pfn)), [FrameType::None; 3]);
    assert_eq!(world.fake.allocator.free_frames(), free + 1);
    assert!(world.vcpu().pending.is_empty(), "nothing is left to another call");
}

#[test]
fn giving_back_ends_at_what_is_not_ones_own() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let others = world.fake.domains[0].first[DATA as usize + 6].0;
    let shared = world.fake.domains[1].shared_mfn.0;
    let mut good = (DATA + 6..FRAMES).map(|pfn| world.mfn(pfn).0).collect::<Vec<_>>().into_iter();
    for bad in [others, shared, 9, 0, 63, u64::MAX] {
        let list = [good.next().unwrap(), bad, world.mfn(DATA).0];
        assert_eq!(world.change(DECREASE, extents(INPUTS, 3, 0), &list), 1, "{bad:#x}");
    }
    assert_eq!(world.allocated(), FRAMES - 6);
    assert!(!world.fake.record.complaints.is_empty());
}

#[test]
fn frames_come_zeroed_and_at_a_number() {
    let machine = machine();
    let world = &mut World::new(&machine);
    (0..64).for_each(|n| {
        if machine.frames[n].owner().is_none() {
            machine.memory.write(Mfn(n as u64), 5, 5);
        }
    });
    assert_eq!(world.change(POPULATE, extents(INPUTS, 2, 1), &[0x100, 0x200]), 2);
    assert_eq!(world.allocated(), FRAMES + 4);
    for (mfn, pfn) in world.inputs(2).into_iter().zip([0x100, 0x200]) {
        for n in 0..2 {
            assert_eq!(machine.memory.known_as(Mfn(mfn + n)), pfn + n);
            assert_eq!(machine.memory.read(Mfn(mfn + n), 5), 0);
            assert_eq!(machine.table().get(Mfn(mfn + n)).unwrap().owner(), Some(DomainId(1)));
        }
    }
    assert_eq!(world.change(INCREASE, extents(INPUTS, 1, 0), &[0x300]), 1);
    assert_eq!(machine.memory.known_as(Mfn(world.inputs(1)[0])), INVALID_ENTRY, "at no particular number");
    assert_eq!(world.change(INCREASE, extents(0, 1, 0), &[]), 1, "nobody wants to know where");
}

#[test]
fn nobody_gets_more_than_it_may() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let more = (MAX_FRAMES - FRAMES).cast_signed();
    assert_eq!(world.change(INCREASE, extents(0, 100, 0), &[]), more);
    assert_eq!(world.change(POPULATE, extents(INPUTS, 1, 0), &[1]), 0);
    assert_eq!(world.inputs(1), [1]);
}

#[test]
fn interrupts_have_their_turn_while_many_frames_are_zeroed() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for order in [0, 1] {
        world.put_extents(extents(INPUTS, 4, order), &[7; 4]);
        let mut restarts = 0;
        let (_, done) = world.call_within(number::MEMORY_OP, &[POPULATE, REQUEST], || {
            restarts += 1;
            32
        });
        assert_eq!(done, [4, 2][order as usize], "extents that it may have");
        assert!(restarts > 1, "order {order}");
    }
}

#[test]
fn extents_end_when_there_is_no_memory() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.allocations = Failing::after(3);
    assert_eq!(world.change(POPULATE, extents(INPUTS, 5, 0), &[7; 5]), 3);
    assert_eq!(world.inputs(5)[3..], [7; 2]);
    assert_eq!(world.change(POPULATE, extents(INPUTS, 1, 9), &[7]), 0, "no block is so large");
}

#[test]
fn extents_end_where_the_array_does() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let last = BASE + fake::WINDOW as u64 - 8;
    world.put_extents(extents(last, 2, 0), &[]);
    world.fake.put_words(last, &[world.mfn(DATA + 6).0]);
    assert_eq!(world.result(number::MEMORY_OP, &[DECREASE, REQUEST]), 1);
    assert_eq!(world.result(number::MEMORY_OP, &[POPULATE, REQUEST]), 1);
    assert_eq!(world.result(number::MEMORY_OP, &[INCREASE, REQUEST]), 1);
}

#[test]
fn requests_that_make_no_sense_do_nothing() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let other = |domid, order, count| MemoryReservation { domid, ..extents(INPUTS, count, order) };
    for command in [DECREASE, INCREASE, POPULATE] {
        let mfn = world.mfn(DATA + 6).0;
        for (request, answer) in [
            (other(0, 0, 1), EPERM),
            (other(2, 0, 1), 0),
            (extents(INPUTS, 1, 10), 0),
            (extents(INPUTS, 1, u32::MAX), 0),
            (extents(INPUTS, u64::MAX, 0), 0),
            (extents(INPUTS, 1 << 49, 9), 0),
            (extents(INPUTS, 0, 0), 0),
        ] {
            assert_eq!(world.change(command, request, &[mfn]), answer, "{command} {request:?}");
        }
        assert_eq!(world.result(number::MEMORY_OP, &[command, 0]), 0, "a request that can't be read");
        assert_eq!(world.change(1 << 63 | command, extents(INPUTS, 1, 0), &[mfn]), 1, "already done, it says");
    }
    assert_eq!(world.allocated(), FRAMES);
    assert_eq!(world.change(DECREASE, other(1, 0, 1), &[world.mfn(DATA + 6).0]), 1, "by its own number");
}
