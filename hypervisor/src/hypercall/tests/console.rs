//! `console_io`.

use super::fake::Failing;
use super::*;
use std::vec::Vec;

#[test]
fn writes_arrive_whole_and_in_order() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let text: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
    world.fake.put(BASE, &text);
    assert_eq!(world.result(number::CONSOLE_IO, &[0, 5000, BASE]), 0);
    assert_eq!(world.fake.record.printed, text);
    assert_eq!(world.result(number::CONSOLE_IO, &[0, 1 << 31, BASE]), EINVAL);
    assert_eq!(world.result(number::CONSOLE_IO, &[0, 0x7fff_ffff, BASE]), EFAULT);
    assert_eq!(world.result(number::CONSOLE_IO, &[2, 0, BASE]), ENOSYS);
}

#[test]
fn nothing_is_lost_or_written_twice_by_a_domain_that_has_to_wait() {
    let text: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
    for chunks in 0..8 {
        let machine = machine();
        let world = &mut World::new(&machine);
        world.fake.put(BASE, &text);
        world.fake.prints = Failing::once_after(chunks);
        assert_eq!(world.result(number::CONSOLE_IO, &[0, 1000, BASE]), 0);
        assert!(world.fake.prints.failed);
        assert_eq!(world.fake.record.printed, text);
    }
}

#[test]
fn reads_get_what_was_typed() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.keys = b"ab".to_vec();
    assert_eq!(world.result(number::CONSOLE_IO, &[1, 9, BASE]), 2);
    assert_eq!(&world.fake.memory[..2], b"ab");
}
