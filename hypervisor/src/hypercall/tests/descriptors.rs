//! `set_gdt`, `update_descriptor` and the LDT of `mmuext_op`.

use super::requests::*;
use super::world::*;
use super::*;
use crate::addr::GuestVa;
use crate::mm::state::FrameType;
use pv_abi::mmu::{MMUEXT_NEW_BASEPTR, MMUEXT_SET_LDT};

/// A flat code segment for ring 0, and what it becomes.
const CODE: u64 = 0x00af_9b00_0000_ffff;
const CODE_3: u64 = 0x00af_fb00_0000_ffff;
const TSS: u64 = 0x0000_8900_0000_0067;

impl World<'_> {
    /// Makes frames the GDT.
    fn set_gdt(&mut self, frames: &[u64], entries: u64) -> i64 {
        self.fake.put_words(REQUEST, frames);
        self.result(number::SET_GDT, &[REQUEST, entries])
    }
}

#[test]
fn a_gdt_is_checked_and_shown() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (first, second) = (world.mfn(DATA + 6), world.mfn(DATA + 7));
    world.write(DATA + 6, 511, CODE);
    assert_eq!(world.set_gdt(&[first.0, second.0], 513), 0);
    assert_eq!(world.read(DATA + 6, 511), CODE_3);
    assert_eq!(world.fake.cpus[0].gdt, [first, second]);
    assert_eq!(world.kind(DATA + 6), FrameType::Descriptors);
    assert_eq!(world.set_gdt(&[second.0, second.0], 1024), 0, "a page may be there twice");
    assert_eq!(world.kind(DATA + 6), FrameType::None);
    assert_eq!(world.set_gdt(&[], 0), 0);
    assert!(world.fake.cpus[0].gdt.is_empty());
    assert_eq!(world.kind(DATA + 7), FrameType::None);
}

#[test]
fn a_bad_gdt_changes_nothing() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let good = world.mfn(DATA + 6).0;
    assert_eq!(world.set_gdt(&[good], 512), 0);
    world.write(DATA + 7, 5, TSS);
    let others = world.fake.domains[0].first[DATA as usize + 6].0;
    for (bad, what) in [
        (world.mfn(DATA).0, "mapped writable"),
        (world.mfn(L1).0, "a table"),
        (world.mfn(DATA + 7).0, "a TSS in it"),
        (others, "another's"),
        (9, "a device"),
        (0, "no frame"),
        (u64::MAX, "above everything"),
    ] {
        assert_eq!(world.set_gdt(&[good, good, bad], 1025), EINVAL, "{what}");
        assert_eq!(world.vcpu().gdt.as_slice(), [Mfn(good)]);
    }
    let full = [good; 15];
    assert_eq!(world.set_gdt(&full, 7169), EINVAL);
    assert_eq!(world.set_gdt(&full, u64::from(u32::MAX)), EINVAL);
    assert_eq!(world.set_gdt(&full, 1 << 32 | 7168), 0, "32 bits count");
    assert_eq!(world.vcpu().gdt.len(), 14);
    assert_eq!(world.result(number::SET_GDT, &[BASE - 8, 512]), EFAULT);
    assert_eq!(world.vcpu().gdt.len(), 14);
}

#[test]
fn a_descriptor_is_checked_wherever_it_is_stored() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let update = |world: &mut World<'_>, address, value| world.result(number::UPDATE_DESCRIPTOR, &[address, value]);
    let plain = world.at(DATA + 6, 3);
    assert_eq!(update(world, plain, CODE), 0);
    assert_eq!(world.read(DATA + 6, 3), CODE_3);
    assert_eq!(world.set_gdt(&[world.mfn(DATA + 6).0], 512), 0);
    assert_eq!(update(world, world.at(DATA + 6, 511), CODE), 0);
    assert_eq!(world.read(DATA + 6, 511), CODE_3);
    assert_eq!(update(world, plain, TSS), EINVAL);
    assert_eq!(update(world, plain + 4, CODE), EINVAL, "not a multiple of 8");
    let others = world.fake.domains[0].first[DATA as usize + 6];
    for bad in [world.mfn(L1), others, Mfn(9), Mfn(0), Mfn(63), Mfn(1 << 50)] {
        assert_eq!(update(world, bad.base().0, CODE), EINVAL, "{bad:?}");
    }
    assert_eq!(world.read(DATA + 6, 3), CODE_3);
}

#[test]
fn an_ldt_is_where_it_may_be() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.operate(MMUEXT_SET_LDT, 0x1000, 8192), 0);
    assert_eq!((world.vcpu().ldt.base, world.vcpu().ldt.entries), (GuestVa::new(0x1000), 8192));
    for (address, entries) in [
        (0x1008, 1),
        (0x1000, 8193),
        (0x1000, u64::from(u32::MAX)),
        (1 << 47, 1),
        (0xffff_8000_0000_0000, 1),
        (0x7fff_ffff_f000, 513),
    ] {
        assert_eq!(world.operate(MMUEXT_SET_LDT, address, entries), EINVAL, "{address:#x} {entries}");
    }
    assert_eq!(world.vcpu().ldt.entries, 8192);
    assert_eq!(world.operate(MMUEXT_SET_LDT, 0x2000, 1 << 32 | 5), 0, "32 bits count");
    assert_eq!(world.vcpu().ldt.entries, 5);
    assert_eq!(world.operate(MMUEXT_SET_LDT, 1, 0), 0, "nothing is nowhere");
    assert_eq!((world.vcpu().ldt.base, world.vcpu().ldt.entries), (None, 0));
}

#[test]
fn the_pages_of_an_ldt_are_let_go_with_it() {
    let machine = machine();
    let world = &mut World::new(&machine);
    // The other tables map the page read-only at 0x1000.
    let (root, page) = (world.mfn(OTHER_L4), world.mfn(DATA + 5));
    assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, root.0, 0), 0);
    for (command, address, entries) in
        [(MMUEXT_SET_LDT, 0x2000, 9), (MMUEXT_SET_LDT, 0, 0), (MMUEXT_NEW_BASEPTR, world.mfn(L4).0, 0)]
    {
        assert_eq!(world.operate(MMUEXT_SET_LDT, 0x1000, 512), 0);
        world.fill_ldt(0);
        assert_eq!(world.fake.cpus[0].ldt, [page]);
        assert_eq!(world.operate(MMUEXT_SET_LDT, 0x1000, 512), 0, "the same again");
        assert_eq!(world.operate(MMUEXT_NEW_BASEPTR, root.0, 0), 0, "and the same root");
        assert_eq!(world.fake.cpus[0].ldt, [page]);
        assert_eq!(world.operate(command, address, entries), 0);
        assert!(world.fake.cpus[0].ldt.is_empty());
        assert_eq!(world.kind(DATA + 5), FrameType::None);
    }
}
