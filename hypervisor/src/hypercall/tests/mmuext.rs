//! `mmuext_op`.

use super::requests::*;
use super::world::*;
use super::*;
use crate::mm::state::FrameType;
use pv_abi::domid::DOMID_IO;
use pv_abi::mmu::*;
use pv_abi::trap::VMASST_TYPE_M2P_STRICT;

const EACCES: i64 = Errno::EACCES.code();
const TREE: [u64; 4] = [OTHER_L4, OTHER_L3, OTHER_L2, OTHER_L1];
const LEVELS: [FrameType; 4] = [FrameType::L4, FrameType::L3, FrameType::L2, FrameType::L1];

/// Of whole CPUs, and of addresses on this one.
type Flushes<'a> = (&'a [CpuSet], &'a [u64]);

fn kinds(world: &World<'_>) -> [FrameType; 4] {
    TREE.map(|pfn| world.kind(pfn))
}

#[test]
fn a_pin_types_the_tree_and_unpinning_frees_it() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let l4 = world.mfn(OTHER_L4).0;
    assert_eq!(kinds(world), [FrameType::None; 4]);
    assert_eq!(world.operate(MMUEXT_PIN_L4_TABLE, l4, 0), 0);
    assert_eq!(kinds(world), LEVELS);
    assert!(world.state(OTHER_L4).is_pinned());
    assert_eq!(world.operate(MMUEXT_UNPIN_TABLE, l4, 0), 0);
    assert_eq!(kinds(world), [FrameType::None; 4]);
    for (command, pfn) in [
        (MMUEXT_PIN_L1_TABLE, OTHER_L1),
        (MMUEXT_PIN_L2_TABLE, OTHER_L2),
        (MMUEXT_PIN_L3_TABLE, OTHER_L3),
        (MMUEXT_PIN_L4_TABLE, OTHER_L4),
    ] {
        assert_eq!(world.operate(command, world.mfn(pfn).0, 0), 0);
        assert!(world.state(pfn).is_pinned());
    }
}

#[test]
fn pins_that_make_no_sense_are_refused() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let l4 = world.mfn(OTHER_L4).0;
    let shared = world.fake.domains[1].shared_mfn.0;
    assert_eq!(world.operate(MMUEXT_UNPIN_TABLE, l4, 0), EINVAL);
    assert_eq!(world.operate(MMUEXT_PIN_L4_TABLE, l4, 0), 0);
    let others = world.fake.domains[0].first[DATA as usize].0;
    for (command, mfn, what) in [
        (MMUEXT_PIN_L4_TABLE, l4, "pinned already"),
        (MMUEXT_PIN_L3_TABLE, l4, "of another level"),
        (MMUEXT_PIN_L1_TABLE, world.mfn(DATA).0, "mapped writable"),
        (MMUEXT_PIN_L1_TABLE, others, "another's"),
        (MMUEXT_PIN_L1_TABLE, 9, "a device"),
        (MMUEXT_PIN_L1_TABLE, 0, "no frame"),
        (MMUEXT_PIN_L1_TABLE, 63, "free"),
        (MMUEXT_PIN_L1_TABLE, u64::MAX, "above everything"),
        (MMUEXT_PIN_L1_TABLE, shared, "shared with the hypervisor"),
        (MMUEXT_UNPIN_TABLE, world.mfn(L4).0, "in use, but not pinned"),
        (MMUEXT_UNPIN_TABLE, others, "another's"),
        (MMUEXT_UNPIN_TABLE, u64::MAX, "above everything"),
    ] {
        assert_eq!(world.operate(command, mfn, 0), EINVAL, "{what}");
    }
    assert!(world.state(OTHER_L4).is_pinned());
}

#[test]
fn a_table_with_a_bad_entry_is_not_pinned() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let others = world.fake.domains[0].first[DATA as usize];
    world.write(OTHER_L1, 511, entry(others, P));
    assert_eq!(world.operate(MMUEXT_PIN_L4_TABLE, world.mfn(OTHER_L4).0, 0), Errno::EBUSY.code());
    assert_eq!(world.operate(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    assert_eq!(kinds(world), [FrameType::None; 4]);
    let complaint = world.fake.record.complaints.pop().unwrap();
    assert!(complaint.contains("L1 table") && complaint.contains("entry 511"), "{complaint}");
}

#[test]
fn a_list_ends_at_the_first_refusal() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let flush = operation(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    for (command, errno) in [
        (14, ENOSYS),
        (21, ENOSYS),
        (u32::MAX, ENOSYS),
        (MMUEXT_FLUSH_CACHE, EACCES),
        (MMUEXT_FLUSH_CACHE_GLOBAL, EACCES),
        (MMUEXT_MARK_SUPER, Errno::EOPNOTSUPP.code()),
        (MMUEXT_UNMARK_SUPER, Errno::EOPNOTSUPP.code()),
        (MMUEXT_PIN_L1_TABLE, EINVAL),
    ] {
        let list = [flush, flush, flush, operation(command, 0, 0), flush];
        world.fake.record.flushes.clear();
        assert_eq!(world.mmuext_op(&list), (errno, 3), "{command}");
        assert_eq!(world.fake.record.flushes.len(), 3);
    }
}

#[test]
fn only_ones_own_tables_may_be_named() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.put_operations(&[operation(MMUEXT_TLB_FLUSH_LOCAL, 0, 0)]);
    for (named, errno) in
        [(0, EPERM), (1, ESRCH), (2, ESRCH), (u64::from(DOMID_IO), EPERM), (7 << 16 | OWN, 0), (OWN, 0)]
    {
        assert_eq!(world.result(number::MMUEXT_OP, &[REQUEST, 1, 0, named]), errno, "{named:#x}");
    }
    world.run(0);
    world.take_off(FIRST);
    assert_eq!(world.result(number::MMUEXT_OP, &[REQUEST, 1, 0, 1]), EPERM, "others can't be flushed");
}

#[test]
fn a_new_root_is_loaded_before_the_old_one_is_given_up() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (old, new) = (world.mfn(L4), world.mfn(OTHER_L4));
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, new.0, 0), 0);
    assert_eq!(world.vcpu().roots.kernel, Some(new));
    assert_eq!(world.fake.record.roots, [Some(new)]);
    assert_eq!(world.kind(L4), FrameType::L4, "the other vCPU has it");
    world.run(3);
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, new.0, 0), 0);
    assert_eq!(world.kind(L4), FrameType::None);
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, new.0, 0), 0, "the same again flushes");
    assert_eq!(world.fake.record.roots, [Some(new); 3]);
    for bad in [0, 9, world.mfn(DATA + 4).0, world.mfn(OTHER_L1).0, u64::MAX] {
        assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, bad, 0), EINVAL);
    }
    assert_eq!(world.vcpu().roots.kernel, Some(new));
    assert_eq!(world.fake.record.roots.len(), 3);
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, old.0, 0), 0);
}

#[test]
fn a_user_root_may_be_none() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let user = world.mfn(OTHER_L4);
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, user.0, 0), 0);
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, user.0, 0), 0);
    assert_eq!(world.vcpu().roots.user, Some(user));
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, world.mfn(OTHER_L3).0, 0), EINVAL);
    assert_eq!(world.vcpu().roots.user, Some(user));
    assert!(world.fake.record.roots.is_empty(), "no CPU is in user mode");
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    assert_eq!(world.vcpu().roots.user, None);
    assert_eq!(kinds(world), [FrameType::None; 4]);
}

#[test]
fn the_machine_to_phys_table_can_be_hidden_from_user_mode() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let user = world.mfn(OTHER_L4).0;
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, user, 0), 0);
    assert_ne!(world.read(OTHER_L4, 256), 0);
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    assert_eq!(world.result(number::VM_ASSIST, &[0, VMASST_TYPE_M2P_STRICT.into()]), 0);
    assert_eq!(world.operate(MMUEXT_NEW_USER_BASEPTR, user, 0), 0);
    assert_eq!(world.read(OTHER_L4, 256), 0);
    assert_ne!(world.read(OTHER_L4, 257), 0);
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, user, 0), 0);
    assert_ne!(world.read(OTHER_L4, 256), 0, "the kernel sees it");
}

#[test]
fn flushes_reach_the_cpus_that_were_asked_for() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(3);
    world.run(2);
    world.fake.put_words(BITMAP, &[1, u64::MAX << 3]);
    const AT: u64 = 0x1234_5678;
    let cases: &[(u32, u64, u64, Flushes<'_>)] = &[
        (MMUEXT_TLB_FLUSH_LOCAL, 0, 0, (&[only(0)], &[])),
        (MMUEXT_INVLPG_LOCAL, AT, 0, (&[], &[AT])),
        (MMUEXT_TLB_FLUSH_MULTI, 0, BITMAP, (&[only(1), only(0)], &[])),
        (MMUEXT_INVLPG_MULTI, AT, BITMAP, (&[only(1)], &[AT])),
        (MMUEXT_TLB_FLUSH_MULTI, 0, BITMAP + 8, (&[], &[])),
        (MMUEXT_INVLPG_MULTI, AT, BITMAP + 8, (&[], &[])),
        (MMUEXT_TLB_FLUSH_ALL, 0, 0, (&[only(1), only(0)], &[])),
        (MMUEXT_INVLPG_ALL, AT, 0, (&[only(1)], &[AT])),
        (MMUEXT_INVLPG_LOCAL, 0xffff_8000_0000_0000, 0, (&[], &[])),
        (MMUEXT_INVLPG_LOCAL, 1 << 47, 0, (&[], &[])),
    ];
    for &(command, address, bitmap, (flushes, addresses)) in cases {
        world.fake.record = fake::Record::default();
        assert_eq!(world.operate(command, address, bitmap), 0, "{command}");
        assert_eq!(world.fake.record.flushes, flushes, "{command}");
        assert_eq!(world.fake.record.flushed_addresses, addresses, "{command}");
    }
    for command in [MMUEXT_TLB_FLUSH_MULTI, MMUEXT_INVLPG_MULTI] {
        assert_eq!(world.operate(command, 0, 0), EINVAL, "a bitmap that can't be read");
    }
}

#[test]
fn pages_are_cleared_and_copied() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (to, from) = (world.mfn(DATA + 6).0, world.mfn(DATA + 7).0);
    world.write(DATA + 6, 3, 7);
    world.write(DATA + 7, 511, 9);
    assert_eq!(world.operate(MMUEXT_COPY_PAGE, to, from), 0);
    assert_eq!((world.read(DATA + 6, 3), world.read(DATA + 6, 511)), (0, 9));
    assert_eq!(world.operate(MMUEXT_COPY_PAGE, to, to), 0);
    assert_eq!(world.operate(MMUEXT_COPY_PAGE, to, world.mfn(L1).0), 0, "a table may be copied");
    assert_eq!(world.read(DATA + 6, 0), world.read(L1, 0));
    assert_eq!(world.operate(MMUEXT_CLEAR_PAGE, to, 0), 0);
    assert_eq!(world.read(DATA + 6, 0), 0);
    let others = world.fake.domains[0].first[DATA as usize].0;
    for bad in [world.mfn(L1).0, others, 9, 0, 63, u64::MAX] {
        assert_eq!(world.operate(MMUEXT_CLEAR_PAGE, bad, 0), EINVAL);
        assert_eq!(world.operate(MMUEXT_COPY_PAGE, bad, from), EINVAL);
    }
    for bad in [others, 9, 0, 63, u64::MAX] {
        assert_eq!(world.operate(MMUEXT_COPY_PAGE, to, bad), EINVAL);
    }
    assert_eq!(world.read(L1, 0) & !0xfff & !(1 << 52), entry(world.mfn(DATA), 0));
}

#[test]
fn a_page_that_was_a_table_is_flushed_before_it_is_cleared() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let l1 = world.mfn(OTHER_L1).0;
    assert_eq!(world.operate(MMUEXT_PIN_L1_TABLE, l1, 0), 0);
    assert_eq!(world.operate(MMUEXT_UNPIN_TABLE, l1, 0), 0);
    world.fake.record.flushes.clear();
    assert_eq!(world.operate(MMUEXT_CLEAR_PAGE, l1, 0), 0);
    assert_eq!(world.fake.record.flushes, [only(0)]);
}
