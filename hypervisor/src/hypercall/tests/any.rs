//! Any call with any arguments.

use super::fake::{Failing, WINDOW};
use super::*;
use crate::domain::vcpu::Mode;
use proptest::prelude::*;

#[test]
fn numbers_nobody_serves_are_enosys() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for bad in [11, 34, 37, 55, 64, 0x7fff_ffff, u32::MAX] {
        assert_eq!(world.result(bad, &[0; 6]), ENOSYS);
    }
    let mut regs = World::registers(number::XEN_VERSION, &[]);
    regs.rax |= 1 << 32;
    assert!(world.step(&mut regs, 0, BUDGET).is_some());
    assert_eq!(regs.rax.cast_signed(), ENOSYS, "the upper half of the number counts");
}

proptest! {
    #![proptest_config(crate::mm::tests::config(256))]

    // Some arguments are pointers to random memory, and any copy may fail: no panic, no endless restart, kernel mode
    // kept, and the counts of memory hold.
    #[test]
    fn nothing_a_guest_says_hurts(
        number in 0..60_u32,
        args in proptest::array::uniform6(prop_oneof![
            0..40_u64,
            BASE..BASE + WINDOW as u64,
            any::<u64>(),
            Just(BASE + 0xfff8),
            Just(0x7fff_ffff_fff8),
        ]),
        memory in proptest::collection::vec(any::<u8>(), 512),
        copies in proptest::option::of(0..40_u32),
    ) {
        let machine = machine();
        let mut world = World::new(&machine);
        for chunk in world.fake.memory.chunks_mut(512) {
            chunk.copy_from_slice(&memory);
        }
        world.fake.copies = copies.map_or(Failing::default(), Failing::after);
        let _ = world.call(number, &args);
        prop_assert_eq!(world.vcpu().mode, Mode::Kernel);
        world.end();
    }
}
