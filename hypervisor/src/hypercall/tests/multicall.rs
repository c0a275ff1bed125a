//! `multicall`.

use super::*;
use crate::domain::ShutdownReason;
use std::vec::Vec;

#[test]
fn each_entry_gets_its_result() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let entry = |op: u32, args: [u64; 2]| [u64::from(op), 0xdead, args[0], args[1], 0, 0, 0, 0];
    let list = [
        entry(number::XEN_VERSION, [0, 0]),
        entry(99, [0, 0]),
        entry(number::MULTICALL, [0, 0]),
        entry(number::IRET, [0, 0]),
        entry(number::STACK_SWITCH, [0, 0x9000]),
    ];
    world.fake.put_words(BASE, list.as_flattened());
    assert_eq!(world.result(number::MULTICALL, &[BASE, 5]), 0);
    let results: Vec<i64> = (0..5).map(|n| world.fake.word(BASE + 64 * n + 8).cast_signed()).collect();
    assert_eq!(results, [4 << 16 | 17, ENOSYS, EINVAL, ENOSYS, 0]);
    assert_eq!(world.vcpu().kernel_sp, 0x9000);
}

#[test]
fn a_long_list_is_carried_out_once_each() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for n in 0..500 {
        world.fake.put_words(BASE + 64 * n, &[number::CONSOLE_IO.into(), 9, 0, 1, BASE + 0xf000 + n, 0, 0, 0]);
        world.fake.put(BASE + 0xf000 + n, &n.to_le_bytes()[..1]);
    }
    assert_eq!(world.result(number::MULTICALL, &[BASE, 500]), 0);
    assert_eq!(world.fake.record.printed, (0..500_u64).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    assert_eq!(world.result(number::MULTICALL, &[BASE, u64::from(u32::MAX)]), EFAULT);
}

#[test]
fn a_list_of_long_outputs_waits_after_each() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for n in 0..32 {
        world.fake.put_words(BASE + 64 * n, &[number::CONSOLE_IO.into(), 9, 0, 128, BASE + 0xf000, 0, 0, 0]);
    }
    let mut regs = World::registers(number::MULTICALL, &[BASE, 32]);
    for calls in 1..=32 {
        let done = world.step(&mut regs, 2, BUDGET).is_some();
        assert_eq!((world.fake.record.printed.len(), done), (128 * calls, calls == 32));
    }
}

#[test]
fn a_shutdown_ends_the_domain() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.put_words(BASE, &[number::SCHED_OP.into(), 0, 2, BASE + 512, 0, 0, 0, 0]);
    let (next, _) = world.call(number::MULTICALL, &[BASE, 2]);
    assert_eq!(next, Next::End(End::Shutdown(ShutdownReason::Poweroff)));
}
