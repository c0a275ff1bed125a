//! `mmu_update` and `update_va_mapping`.

use super::requests::*;
use super::world::*;
use super::*;
use crate::mm::m2p::INVALID_ENTRY;
use crate::mm::state::FrameType;
use pv_abi::domid::{DOMID_IO, DOMID_XEN};
use pv_abi::mmu::{MMU_MACHPHYS_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD};

const EBUSY: i64 = Errno::EBUSY.code();
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// What is added to an L1 entry of the guest's kernel.
const KERNEL: u64 = US | 1 << 52;

#[test]
fn a_plain_page_is_written_and_a_table_checked() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let data = entry(world.mfn(DATA + 4), P);
    let updates = [
        (world.at(DATA + 6, 511), 0xdead_beef),
        (world.at(L1, 7), data),
        (world.at(L2, 5) | MMU_PT_UPDATE_NO_TRANSLATE, entry(world.mfn(OTHER_L1), P | RW)),
    ];
    assert_eq!(world.mmu_update(&updates), (0, 3));
    assert_eq!(world.read(DATA + 6, 511), 0xdead_beef);
    assert_eq!(world.read(L1, 7), data | KERNEL);
    assert_eq!(world.kind(OTHER_L1), FrameType::L1);
    assert_eq!(world.mmu_update(&[(world.at(L2, 5), 0)]), (0, 1));
    assert_eq!(world.kind(OTHER_L1), FrameType::None, "taken apart when the call is over");
}

#[test]
fn accessed_and_dirty_are_kept_on_demand() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let mapped = world.read(L1, 0);
    // As the CPU would.
    world.write(L1, 0, mapped | ACCESSED | DIRTY);
    assert_eq!(world.mmu_update(&[(world.at(L1, 0) | MMU_PT_UPDATE_PRESERVE_AD, mapped)]), (0, 1));
    assert_eq!(world.read(L1, 0), mapped | ACCESSED | DIRTY);
    assert_eq!(world.mmu_update(&[(world.at(L1, 0), mapped)]), (0, 1));
    assert_eq!(world.read(L1, 0), mapped);
}

#[test]
fn the_machine_to_phys_table_takes_any_number_for_a_frame_of_ones_own() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let own = world.mfn(DATA);
    assert_eq!(world.mmu_update(&[(own.base().0 | MMU_MACHPHYS_UPDATE, 0x1234_5678_9abc)]), (0, 1));
    assert_eq!(machine.memory.known_as(own), 0x1234_5678_9abc);
    let others = world.fake.domains[0].first[0];
    for bad in [others, Mfn(0), Mfn(9), Mfn(63), Mfn(64), Mfn(1 << 40)] {
        let before = (bad.0 < 64).then(|| machine.memory.known_as(bad));
        assert_eq!(world.mmu_update(&[(bad.base().0 | MMU_MACHPHYS_UPDATE, 7)]), (EINVAL, 0), "{bad:?}");
        assert_eq!((bad.0 < 64).then(|| machine.memory.known_as(bad)), before);
    }
    assert_eq!(machine.memory.known_as(Mfn(63)), INVALID_ENTRY);
}

#[test]
fn a_list_ends_at_the_first_refusal() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (others, pinned) = (world.fake.domains[0].first[DATA as usize], world.mfn(L1));
    let good = (world.at(DATA + 6, 0), 1);
    let slot = |pfn, index| world.at(pfn, index);
    let refusals = [
        ((slot(L1, 0), entry(others, P)), EBUSY, "another's page"),
        ((slot(L1, 0), entry(pinned, P | RW)), EBUSY, "a table, writable"),
        ((slot(L1, 0), entry(Mfn(9), P)), EPERM, "a device"),
        ((slot(L1, 0), entry(Mfn(1 << 30), P)), EPERM, "a device above all RAM"),
        ((slot(L1, 0), entry(world.mfn(DATA), P | 1 << 62)), EINVAL, "a bit that is not allowed"),
        ((slot(L1, 0), entry(world.mfn(DATA), P | 1 << 3)), EINVAL, "a cache bit on RAM"),
        ((slot(L2, 1), entry(world.mfn(DATA), P)), EINVAL, "writable memory as an L1 table"),
        ((slot(L2, 1), entry(world.mfn(DATA + 4), P | 1 << 7)), EINVAL, "a superpage"),
        ((slot(L3, 1), entry(world.mfn(L3), P)), EINVAL, "itself"),
        ((slot(L3, 1), entry(world.mfn(L1), P)), EINVAL, "a table of another level"),
        ((slot(L4, 256), 0), EINVAL, "a hypervisor slot"),
        ((slot(L4, 271), entry(world.mfn(L3), P)), EINVAL, "the last hypervisor slot"),
        ((others.base().0, 0), EINVAL, "a page of another's"),
        ((Mfn(9).base().0, 0), EINVAL, "a device as a page table"),
        ((!7, 0), EINVAL, "an address above everything"),
        ((slot(DATA, 0) | 4, 0), ENOSYS, "no command"),
        ((slot(DATA, 0) | 7, 0), ENOSYS, "no command either"),
    ];
    for (bad, errno, what) in refusals {
        world.fake.put_words(DONE, &[u64::MAX]);
        assert_eq!(world.mmu_update(&[good, good, bad, good]), (errno, 2), "{what}");
        assert_eq!(world.fake.word(DONE) >> 32, u64::from(u32::MAX), "done has 32 bits");
    }
    assert_eq!(world.fake.record.complaints.len(), refusals.len() - 2);
}

#[test]
fn a_list_ends_where_it_cannot_be_read() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let end = BASE + super::fake::WINDOW as u64;
    for good in 0..20 {
        let start = end - 16 * good;
        for n in 0..good {
            world.fake.put_words(start + 16 * n, &[world.at(DATA + 6, n), 100 + n]);
        }
        assert_eq!(world.result(number::MMU_UPDATE, &[start, 30, DONE, OWN]), EFAULT);
        assert_eq!(world.fake.word(DONE), good);
        assert!((0..good).all(|n| world.read(DATA + 6, n as usize) == 100 + n));
    }
    assert_eq!(world.result(number::MMU_UPDATE, &[0xffff_8000_0000_0000, 1, 0, OWN]), EFAULT);
    assert_eq!(world.result(number::MMU_UPDATE, &[0, 0, 0, OWN]), 0, "an empty list is read nowhere");
    assert_eq!(world.result(number::MMU_UPDATE, &[0, 0, 8, OWN]), EFAULT, "done can't be written");
}

#[test]
fn without_privilege_only_ones_own_pages_and_tables_may_be_named() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.put_updates(&[(world.at(DATA + 6, 0), 1)]);
    let tables = |domain: u64| (domain + 1) << 16 | OWN;
    for (named, errno) in [
        (0, EPERM),
        (1, ESRCH),
        (2, ESRCH),
        (u64::from(DOMID_IO), EPERM),
        (u64::from(DOMID_XEN), EPERM),
        (0x7fff, ESRCH),
        (tables(0), EPERM),
        (tables(1), 0),
        (tables(2), ESRCH),
        (1 << 32 | OWN, 0),
    ] {
        assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, named]), errno, "{named:#x}");
    }
}

#[test]
fn with_privilege_the_hypervisors_frames_may_be_read_as_far_as_it_shows_them() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(0);
    let shown = Mfn(world.fake.ram_end.0 - 1);
    let before = world.state_of(shown).references();
    for (mfn, flags, errno) in [(shown.0, P, 0), (shown.0, P | RW, EBUSY), (shown.0 - 1, P, EBUSY), (shown.0, 0, 0)] {
        world.put_updates(&[(world.at(L1, 9), entry(Mfn(mfn), flags))]);
        assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, DOMID_XEN.into()]), errno, "{mfn}, {flags}");
    }
    assert_eq!(world.state_of(shown).references(), before, "nothing maps it any more");
    for named in [OWN, 1] {
        world.put_updates(&[(world.at(L1, 9), entry(shown, P))]);
        assert_ne!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, named]), 0, "in the name of {named}");
    }
    world.put_updates(&[(world.at(L2, 9), entry(shown, P))]);
    for named in [OWN, DOMID_XEN.into()] {
        assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, named]), EINVAL, "as a table, by {named:#x}");
    }
}

#[test]
fn with_privilege_anothers_pages_may_be_mapped_but_not_be_tables() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(0);
    let others = world.fake.domains[1].first[DATA as usize + 6];
    world.put_updates(&[(world.at(L1, 9), entry(others, P | RW))]);
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, OWN]), EBUSY, "not without naming it");
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, 1]), 0);
    assert!(world.state_of(others).is_foreign());
    world.put_updates(&[(world.at(L2, 9), entry(others, P | RW))]);
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, 1]), EINVAL);
    world.put_updates(&[(others.base().0 | MMU_MACHPHYS_UPDATE, 99)]);
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, 1]), 0);
    assert_eq!(machine.memory.known_as(others), 99);
    world.put_updates(&[(world.at(L1, 10), entry(Mfn(9), P | RW | 1 << 4))]);
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, OWN]), 0, "a device frame that it was given");
    assert_eq!(world.result(number::MMU_UPDATE, &[REQUEST, 1, 0, 2 << 16 | OWN]), EPERM, "tables of another domain");
}

#[test]
fn changes_above_l1_flush_the_domains_cpus_once_at_the_end() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(3);
    world.run(2);
    let spare = entry(world.mfn(OTHER_L1), P | RW);
    assert_eq!(world.mmu_update(&[(world.at(L2, 5), spare), (world.at(L2, 6), spare)]), (0, 2));
    assert!(world.fake.record.flushes.is_empty(), "nobody can have seen what was not there");
    assert_eq!(world.mmu_update(&[(world.at(L1, 0), 0)]), (0, 1));
    assert!(world.fake.record.flushes.is_empty(), "the guest flushes for L1");
    assert_eq!(world.mmu_update(&[(world.at(L2, 5), 0), (world.at(L2, 6), 0)]), (0, 2));
    assert_eq!(world.fake.record.flushes, [ALL_CPUS]);
    let failing = [(world.at(L2, 0), 0), (world.at(L4, 256), 0)];
    assert_eq!(world.mmu_update(&failing), (EINVAL, 1));
    assert_eq!(world.fake.record.flushes, [ALL_CPUS; 2], "a list that fails flushes for what it did");
}

/// The address of L1 entry `index` in the tables that the domain starts with.
pub const fn address(index: u64) -> u64 {
    index << 12
}

#[test]
fn mappings_are_changed_by_address() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let value = entry(world.mfn(DATA + 4), P);
    assert_eq!(world.result(number::UPDATE_VA_MAPPING, &[address(511) + 0xfff, value, 0]), 0);
    assert_eq!(world.read(L1, 511), value | KERNEL);
    assert_eq!(world.result(number::UPDATE_VA_MAPPING, &[address(511), 0, 0]), 0);
    assert_eq!(world.read(L1, 511), 0);
    let others = entry(world.fake.domains[0].first[DATA as usize], P);
    let refusals = [
        ([address(512), value, 0], EINVAL, "no L1 table there"),
        ([1 << 30, value, 0], EINVAL, "no L2 table there"),
        ([1 << 39, value, 0], EINVAL, "no L3 table there"),
        ([1 << 47, value, 0], EINVAL, "not canonical"),
        ([0xffff_8000_0000_0000, value, 0], EINVAL, "the hypervisor's"),
        ([address(0), others, 0], EBUSY, "another's page"),
        ([address(0), entry(world.mfn(L1), P | RW), 0], EBUSY, "a table, writable"),
        ([address(0), value | 1 << 62, 0], EINVAL, "a bit that is not allowed"),
    ];
    let before = world.read(L1, 0);
    for (args, errno, what) in refusals {
        assert_eq!(world.result(number::UPDATE_VA_MAPPING, &args), errno, "{what}");
    }
    assert_eq!(world.read(L1, 0), before);
    assert!(world.fake.record.flushes.is_empty());
}

#[test]
fn mappings_of_other_domains_need_privilege() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let others = |world: &World<'_>, domain: usize| entry(world.fake.domains[domain].first[DATA as usize + 6], P);
    let args = [address(0), others(world, 0), 0, 0];
    assert_eq!(world.result(number::UPDATE_VA_MAPPING_OTHERDOMAIN, &args), EPERM);
    world.run(0);
    let value = others(world, 1);
    assert_eq!(world.result(number::UPDATE_VA_MAPPING_OTHERDOMAIN, &[address(0), value, 0, 2]), ESRCH);
    assert_eq!(world.result(number::UPDATE_VA_MAPPING_OTHERDOMAIN, &[address(0), value, 0, 1]), 0);
    assert_eq!(world.read(L1, 0), value | KERNEL);
}

#[test]
fn the_flush_that_was_asked_for_follows() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.run(3);
    world.run(2);
    let value = entry(world.mfn(DATA + 4), P);
    world.fake.put_words(BITMAP, &[2, 8]);
    let (all, invlpg, everything) = (4, 2, 1);
    let cases: &[(u64, &[CpuSet], &[u64])] = &[
        (0, &[], &[]),
        (all, &[], &[]),
        (invlpg, &[], &[address(3)]),
        (everything, &[only(0)], &[]),
        (invlpg | all, &[only(1)], &[address(3)]),
        (everything | all, &[only(1), only(0)], &[]),
        (everything | BITMAP, &[only(1), only(0)], &[]),
        (invlpg | BITMAP, &[only(1)], &[address(3)]),
        (everything | (BITMAP + 8), &[], &[]),
        (3, &[], &[]),
    ];
    for (flags, flushes, addresses) in cases {
        world.fake.record = fake::Record::default();
        assert_eq!(world.result(number::UPDATE_VA_MAPPING, &[address(3), value, *flags]), 0);
        assert_eq!(world.fake.record.flushes, *flushes, "{flags:#x}");
        assert_eq!(world.fake.record.flushed_addresses, *addresses, "{flags:#x}");
    }
    assert_eq!(world.result(number::UPDATE_VA_MAPPING, &[address(3), value, everything | 8]), EFAULT);
}

#[test]
fn without_a_root_no_address_is_mapped() {
    let machine = machine();
    let mut world = World::new(&machine);
    let root = world.vcpu().roots.kernel;
    let mut bare = world.vcpus[FIRST].roots;
    world.rules(FIRST, |op, _| op.drop_roots(&mut bare)).unwrap();
    world.vcpus[FIRST].roots = bare;
    world.fake.cpus[0].root = None;
    assert_eq!(world.result(number::UPDATE_VA_MAPPING, &[address(0), 0, 0]), EINVAL);
    assert_eq!(world.vcpus[FIRST + 1].roots.kernel, root);
    world.end();
}
