//! `memory_op`: what a domain may ask.

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
    for command in [5, 10, 13] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), EPERM);
    }
    for command in [7, 15, 23] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), Errno::EACCES.code());
    }
    for command in [8, 24, 28, 63] {
        assert_eq!(world.result(number::MEMORY_OP, &[command, BASE]), ENOSYS);
    }
}
