//! Published attacks on paravirtual memory, and relatives of theirs.

use std::string::ToString;

use pv_abi::errno::Errno;

use super::*;
use crate::mm::state::FrameType;
use crate::mm::tests::machine::{DEVICES, HYPERVISOR_ENTRY};

fn in_use(mfn: Mfn, is: FrameType, wanted: FrameType) -> Refusal {
    Refusal::InUse { mfn, is, wanted }
}

/// A table at any level can be mapped read-only, and in no way writable.
#[test]
fn no_table_is_mapped_writable() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    for (table, is) in [(L1, FrameType::L1), (L2, FrameType::L2), (L3, FrameType::L3), (L4, FrameType::L4)] {
        assert_eq!(why(bench.set(L1, 0, entry(table, P | RW))), in_use(table, is, FrameType::Writable));
        bench.set(L1, 0, entry(table, P)).unwrap();
        // Only the write bit changes: no fast path for that.
        assert_eq!(why(bench.set(L1, 0, entry(table, P | RW))), in_use(table, is, FrameType::Writable));
        bench.check(&[L4]);
    }
    // A table that maps itself writable is refused as a whole.
    bench.unpin(L4);
    bench.set(L1, 0, entry(L1, P | RW)).unwrap();
    assert_eq!(why(bench.pin(L4, Level::L4)), in_use(L1, FrameType::L1, FrameType::Writable));
    bench.check(&[]);
}

/// XSA-182, XSA-240: tables that name themselves or one of their level.
#[test]
fn linear_page_tables_are_refused() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.set(L4, 0, entry(L4, P)).unwrap();
    assert_eq!(why(bench.pin(L4, Level::L4)), in_use(L4, FrameType::L4, FrameType::L3));
    bench.set(L4, 0, 0).unwrap();
    bench.pin(L4, Level::L4).unwrap();
    for (table, is, wanted) in
        [(L4, FrameType::L4, FrameType::L3), (L3, FrameType::L3, FrameType::L2), (L2, FrameType::L2, FrameType::L1)]
    {
        assert_eq!(why(bench.set(table, 0, entry(table, P))), in_use(table, is, wanted));
    }
    bench.check(&[L4]);
}

/// XSA-148: a superpage entry maps memory that nobody checked.
#[test]
fn superpages_and_cache_bits_are_refused_on_every_path() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    for (table, child) in [(L1, DATA), (L2, L1), (L3, L2), (L4, L3)] {
        for bit in [1 << 3, 1 << 4, 1 << 7] {
            // As a change of flags of the entry that is there, and as a new entry.
            assert_eq!(why(bench.set(table, 7, entry(child, P | RW | bit))), Refusal::Flags);
            assert_eq!(why(bench.set(table, 0, entry(child, P | RW | bit))), Refusal::Flags);
        }
    }
    bench.unpin(L4);
    bench.set(L2, 0, entry(SPARE, P | RW | 1 << 7)).unwrap();
    assert_eq!(why(bench.pin(L4, Level::L4)), Refusal::Flags);
    bench.check(&[]);
}

/// XSA-401: the page was writable a moment ago, and a CPU may still have that translation. However often the guest asks,
/// nothing is read before that CPU flushed.
#[test]
fn a_page_with_stale_writers_is_flushed_before_it_is_checked() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.set(L1, 0, entry(SPARE, P | RW)).unwrap();
    bench.set(L1, 0, 0).unwrap();
    let stale = Err(Stop::Flush(CpuSet::only(CpuId(0))));
    for _ in 0..3 {
        assert_eq!(bench.once(UNLIMITED, |op| op.pin(SPARE, Level::L2)), stale);
        assert_eq!(bench.once(UNLIMITED, |op| op.take_descriptors(SPARE)), stale);
    }
    // A flush that began before the mapping went away would not do; this one does.
    bench.flush(CpuSet::only(CpuId(0)));
    assert_eq!(bench.once(UNLIMITED, |op| op.pin(SPARE, Level::L2)), Ok(()));
    bench.check(&[L1, SPARE]);
}

/// The reverse: a CPU may still walk the page as a table, so the guest must not write to it yet.
#[test]
fn a_former_table_is_flushed_before_it_is_writable() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.pin(SPARE, Level::L1).unwrap();
    bench.unpin(SPARE);
    let map =
        |op: &mut Operation<'_, _>| op.update(Slot { page: L1, index: 0 }, entry(SPARE, P | RW), Change::Set, OWN);
    let store = |op: &mut Operation<'_, _>| op.update(Slot { page: SPARE, index: 0 }, 7, Change::Set, OWN);
    for _ in 0..3 {
        assert!(matches!(bench.once(UNLIMITED, map), Err(Stop::Flush(_))));
        assert!(matches!(bench.once(UNLIMITED, store), Err(Stop::Flush(_))));
    }
    bench.flush(CpuSet::first(2));
    assert_eq!(bench.once(UNLIMITED, map), Ok(()));
    bench.check(&[L1]);
}

/// Another domain's CPU may have the translation: it is found although it never ran this domain.
#[test]
fn foreign_mappings_are_flushed_too() {
    let mut bench = Bench::new();
    let mmu = bench.machine.mmu();
    let mut neighbour = Pending::new();
    let mut op = Operation::new(&mmu, bench.machine.space(0), &mut neighbour, UNLIMITED);
    op.take_writable(SPARE, OWN).unwrap();
    op.put_writable(SPARE);
    assert_eq!(bench.once(UNLIMITED, |op| op.pin(SPARE, Level::L1)), Err(Stop::Flush(CpuSet::first(2))));
}

/// A frame that went back to the allocator carries the time of its last use along.
#[test]
fn a_freed_page_is_not_reused_before_the_flush() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.set(L1, 0, entry(SPARE, P)).unwrap();
    bench.call(UNLIMITED, |op| op.pin(SPARE, Level::L1)).unwrap();
    bench.give_back(SPARE).unwrap();
    // The mapping and the type keep the frame, and nobody gets it.
    bench.call(UNLIMITED, |op| op.drain()).unwrap();
    assert_eq!(bench.state(SPARE).references(), 1);
    assert!(bench.allocator.alloc(&bench.machine.table(), 0).is_none());
    bench.set(L1, 0, 0).unwrap();
    let block = bench.allocator.alloc(&bench.machine.table(), 0).unwrap();
    assert_eq!((block.mfn, block.dirty), (SPARE, true));
    assert_eq!(bench.machine.clock.stale(block.last_use, CpuSet::first(2)), CpuSet::first(2));
}

/// A CPU may still read through a mapping that could only read: the next owner's data must not be there yet.
#[test]
fn a_page_that_was_only_read_is_not_reused_before_the_flush_either() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.set(L1, 0, entry(SPARE, P)).unwrap();
    bench.flush(CpuSet::first(2));
    bench.set(L1, 0, 0).unwrap();
    bench.give_back(SPARE).unwrap();
    let block = bench.allocator.alloc(&bench.machine.table(), 0).unwrap();
    assert_eq!(bench.machine.clock.stale(block.last_use, CpuSet::first(2)), CpuSet::first(2));
}

/// Nobody unpins a frame that is no longer on the list of allocations, so giving it back does.
#[test]
fn a_pinned_table_that_is_given_back_does_not_stay_for_ever() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    for mfn in [L3, L2, L1, DATA, L4] {
        bench.give_back(mfn).unwrap();
        assert_eq!(why(bench.give_back(mfn)), Refusal::NotAllocated(mfn));
    }
    assert_eq!(why(bench.once(UNLIMITED, |op| op.pin(L4, Level::L4))), Refusal::NotOwned(L4));
    assert_eq!(bench.allocator.free_frames(), 5);
}

/// A page shared with the hypervisor is the domain's to map, and to do nothing else with.
#[test]
fn shared_pages_cannot_be_given_back_or_pinned() {
    let mut bench = Bench::new();
    bench.allocator.add_range(&bench.machine.table(), Mfn(36), 1);
    let block = bench.allocator.alloc(&bench.machine.table(), 0).unwrap();
    bench.frames.share(&bench.machine.table(), block.mfn);
    assert_eq!(why(bench.give_back(block.mfn)), Refusal::NotAllocated(block.mfn));
    let reclaimed = bench.on_frames(UNLIMITED, |op, frames| op.reclaim(frames, block.mfn));
    assert_eq!(why(reclaimed), Refusal::NotAllocated(block.mfn));
    bench.pin(L1, Level::L1).unwrap();
    assert_eq!(why(bench.pin(block.mfn, Level::L1)), in_use(block.mfn, FrameType::Writable, FrameType::L1));
    bench.set(L1, 0, entry(block.mfn, P | RW)).unwrap();
    bench.set(L1, 0, 0).unwrap();
    bench
        .once(UNLIMITED, |op| {
            op.put_writable(block.mfn);
            Ok(())
        })
        .unwrap();
    assert_eq!(bench.allocator.free_frames(), 1);
}

/// A descriptor page is as unwritable as a table, and never one.
#[test]
fn descriptor_pages_are_nothing_else() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.set(SPARE, 0, 0x00af_9b00_0000_ffff).unwrap();
    bench.call(UNLIMITED, |op| op.take_descriptors(SPARE)).unwrap();
    assert_eq!(bench.read(SPARE, 0), 0x00af_fb00_0000_ffff);
    let is = FrameType::Descriptors;
    assert_eq!(why(bench.set(L1, 0, entry(SPARE, P | RW))), in_use(SPARE, is, FrameType::Writable));
    assert_eq!(why(bench.set(SPARE, 0, 0)), in_use(SPARE, is, FrameType::Writable));
    assert_eq!(why(bench.pin(SPARE, Level::L1)), in_use(SPARE, is, FrameType::L1));
    assert_eq!(
        why(bench.call(UNLIMITED, |op| op.take_descriptors(L1))),
        in_use(L1, FrameType::L1, FrameType::Descriptors)
    );
    let ldt = 0x0000_8200_0000_0000;
    let slot = Slot { page: SPARE, index: 3 };
    assert!(matches!(
        why(bench.call(UNLIMITED, |op| op.update_descriptor(slot, ldt))),
        Refusal::Descriptor { index: 3, .. }
    ));
    bench.call(UNLIMITED, |op| op.update_descriptor(slot, 0x00cf_9300_0000_ffff)).unwrap();
    assert_eq!(bench.read(SPARE, 3), 0x00cf_f300_0000_ffff);
}

/// A page with one bad descriptor is refused and stays usable for anything.
#[test]
fn a_bad_descriptor_page_is_refused_whole() {
    let mut bench = Bench::new();
    bench.set(SPARE, 6, 0x0000_8900_0000_0000).unwrap();
    let value = 0x0000_8900_0000_0000;
    assert_eq!(
        why(bench.call(UNLIMITED, |op| op.take_descriptors(SPARE))),
        Refusal::Descriptor { mfn: SPARE, index: 6, value }
    );
    bench.check(&[]);
    bench.set(SPARE, 6, 0).unwrap();
}

/// Pinning a table at another level than it is in use at, or has contents for.
#[test]
fn a_table_has_one_level() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.set(DATA, 0, entry(Mfn(33), P)).unwrap();
    assert_eq!(why(bench.pin(L2, Level::L3)), Refusal::NotOwned(Mfn(33)));
    bench.pin(L2, Level::L2).unwrap();
    assert_eq!(why(bench.pin(L2, Level::L2)), Refusal::Pinned(L2));
    assert_eq!(why(bench.pin(L2, Level::L3)), in_use(L2, FrameType::L2, FrameType::L3));
    assert_eq!(why(bench.set(L2, 0, entry(L2, P))), in_use(L2, FrameType::L2, FrameType::L1));
    assert_eq!(why(bench.call(UNLIMITED, |op| op.unpin(L1))), Refusal::NotPinned(L1));
    bench.check(&[L2]);
}

/// The hypervisor's slots: what the guest has there is ignored, then replaced, and can't be changed.
#[test]
fn hypervisor_slots_are_out_of_reach() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.set(L4, 4, entry(DATA, P | RW)).unwrap();
    bench.pin(L4, Level::L4).unwrap();
    for index in 4..6 {
        assert_eq!(bench.read(L4, index), HYPERVISOR_ENTRY);
        assert_eq!(why(bench.set(L4, index, 0)), Refusal::HypervisorSlot);
    }
    bench.unpin(L4);
    bench.check(&[]);
}

/// Frames that are somebody else's, nobody's, or no frames.
#[test]
fn only_own_frames_are_mapped() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    for frame in [0, 1, 19, 32, 35, 36] {
        for flags in [P, P | RW] {
            let result = bench.set(L1, 0, entry(Mfn(frame), flags));
            assert_eq!(why(result), Refusal::NotOwned(Mfn(frame)));
        }
        assert_eq!(why(bench.pin(Mfn(frame), Level::L1)), Refusal::NotOwned(Mfn(frame)));
        assert_eq!(why(bench.set(Mfn(frame), 0, 0)), Refusal::NotOwned(Mfn(frame)));
    }
    for device in [DEVICES[0].start, DEVICES[1].start, 0xf_ffff_ffff] {
        assert_eq!(why(bench.set(L1, 0, entry(Mfn(device), P))), Refusal::NotPermitted(Mfn(device)));
        assert_eq!(why(bench.pin(Mfn(device), Level::L1)), Refusal::NotOwned(Mfn(device)));
    }
    bench.check(&[L1]);
}

/// On CPUs with L1TF, an entry that is not present may still be read through by speculation.
#[test]
fn entries_that_are_not_present_name_no_memory_on_leaky_cpus() {
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    let mut mmu = bench.machine.mmu();
    mmu.l1tf_limit = Some(Mfn(0x1000));
    let mut op = Operation::new(&mmu, bench.machine.space(1), &mut bench.pending, UNLIMITED);
    let mut set = |value| op.update(Slot { page: L1, index: 0 }, value, Change::Set, OWN);
    assert_eq!(why(set(entry(Mfn(32), RW))), Refusal::NotPresentNamesMemory);
    assert!(set(0).is_ok() && set(entry(Mfn(0x1000), 0)).is_ok() && set(0xffe).is_ok());
}

/// More references than can be counted are refused, not forgotten.
#[test]
fn counts_do_not_overflow() {
    let full = State(State::allocated().0 + crate::mm::state::MAX_REFERENCES - 1);
    let mut bench = Bench::new();
    bench.pin(L1, Level::L1).unwrap();
    bench.machine.table().known(SPARE).set_state(full);
    for flags in [P, P | RW] {
        let result = bench.set(L1, 0, entry(SPARE, flags));
        assert_eq!(why(result), Refusal::TooManyReferences(SPARE));
    }
    assert_eq!(bench.state(SPARE), full);
}

/// The codes are Xen's, and the log line says which entry and why.
#[test]
fn a_refusal_names_the_entry_and_the_reason() {
    let mut bench = Bench::new();
    bench.build_tree();
    bench.pin(L4, Level::L4).unwrap();
    let Err(Stop::Refused(refused)) = bench.set(L1, 2, entry(L2, P | RW)) else { panic!() };
    assert_eq!(refused.errno(), Errno::EBUSY);
    assert_eq!(refused.to_string(), "L1 table 0x15 entry 2 = 0x16003: frame 0x16 is in use as L2 table, not writable");
    let Err(Stop::Refused(refused)) = bench.set(L3, 0, entry(L1, P)) else { panic!() };
    assert_eq!(refused.errno(), Errno::EINVAL);
    // The innermost entry, when a whole tree is refused.
    bench.unpin(L4);
    bench.set(L2, 3, entry(DATA, P | 1 << 8)).unwrap();
    let Err(Stop::Refused(refused)) = bench.pin(L4, Level::L4) else { panic!() };
    assert_eq!(refused.to_string(), "L2 table 0x16 entry 3 = 0x14101: bits that guests may not set");
}
