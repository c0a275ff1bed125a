//! `memory_op`: what a domain may ask.

use std::vec::Vec;

use super::fake::{FRAMES, MAX_FRAMES};
use super::*;

#[test]
fn queries_are_about_oneself() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.put_words(BASE, &[0x7ff0]);
    assert_eq!(world.result(number::MEMORY_OP, &[3, BASE]), FRAMES.cast_signed());
    assert_eq!(world.result(number::MEMORY_OP, &[4, BASE]), MAX_FRAMES.cast_signed());
    assert_eq!(world.result(number::MEMORY_OP, &[14, BASE]), MAX_FRAMES.cast_signed() - 1);
    assert_eq!(world.result(number::MEMORY_OP, &[2, 0]), 64);
    world.fake.put_words(BASE, &[1]);
    assert_eq!(world.result(number::MEMORY_OP, &[3, BASE]), FRAMES.cast_signed(), "by its own number");
    for (domain, code) in [(0, EPERM), (2, ESRCH)] {
        world.fake.put_words(BASE, &[domain]);
        for query in [3, 4, 14] {
            assert_eq!(world.result(number::MEMORY_OP, &[query, BASE]), code);
        }
    }
    assert_eq!(world.result(number::MEMORY_OP, &[3, 0]), EFAULT);
}

#[test]
fn the_memory_map_is_one_range() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.put_words(BASE, &[8, BASE + 64]);
    assert_eq!(world.result(number::MEMORY_OP, &[9, BASE]), 0);
    assert_eq!((world.fake.word(BASE + 64), world.fake.word(BASE + 72)), (0, MAX_FRAMES << 12));
    assert_eq!(world.fake.word(BASE) as u32, 1);
    world.fake.put_words(BASE, &[0, BASE + 64]);
    assert_eq!(world.result(number::MEMORY_OP, &[9, BASE]), EINVAL);
}

#[test]
fn what_is_for_others_is_refused() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for command in [10, 13] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), EPERM);
    }
    for command in [7, 15, 23] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), Errno::EACCES.code());
    }
    for command in [8, 24, 28, 63] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), ENOSYS);
    }
}

#[test]
fn the_frames_of_the_machine_to_phys_table_are_listed_with_its_holes() {
    const LIST: u64 = BASE + 64;
    const FRAMES: u64 = 1 << 18;
    let machine = machine();
    let world = &mut World::new(&machine);
    let bases = [0x200, 0x200, 0x600, 0x600];
    for (end, room, told) in
        [(1, 9, 1), (FRAMES, 9, 1), (FRAMES + 1, 9, 2), (4 * FRAMES, 9, 4), (4 * FRAMES, 3, 3), (FRAMES, 0, 0)]
    {
        world.fake.ram_end = Mfn(end);
        world.fake.put_words(BASE, &[room, LIST, 77]);
        world.fake.put_words(LIST, &[1; 9]);
        assert_eq!(world.result(number::MEMORY_OP, &[5, BASE]), 0);
        let list: Vec<u64> = (0..9).map(|n| world.fake.word(LIST + 8 * n)).collect();
        assert_eq!((&list[..told], &list[told..]), (&bases[..told], &[1; 9][told..]), "{end:#x}, {room}");
        assert_eq!((world.fake.word(BASE), world.fake.word(BASE + 16)), (room, told as u64));
    }
    world.fake.put_words(BASE, &[1, 8, 0]);
    assert_eq!(world.result(number::MEMORY_OP, &[5, BASE]), EFAULT);
    assert_eq!(world.result(number::MEMORY_OP, &[5, 0]), EFAULT);
}
