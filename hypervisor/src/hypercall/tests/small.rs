//! Small calls: versions, segment bases, `iret`.

use super::*;
use crate::domain::Crash;
use pv_abi::version::{XENVER_EXTRAVERSION, XENVER_GET_FEATURES};

#[test]
fn version_strings_fill_their_buffers() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.memory.fill(0xff);
    assert_eq!(world.result(number::XEN_VERSION, &[0]), 4 << 16 | 17);
    assert_eq!(world.result(number::XEN_VERSION, &[u64::from(XENVER_EXTRAVERSION), BASE]), 0);
    assert_eq!(world.fake.memory[15], 0);
    assert_eq!(world.fake.memory[16], 0xff);
    assert_eq!(world.result(number::XEN_VERSION, &[u64::from(XENVER_EXTRAVERSION), BASE - 1]), EFAULT);
    world.fake.put_words(BASE, &[0]);
    assert_eq!(world.result(number::XEN_VERSION, &[u64::from(XENVER_GET_FEATURES), BASE]), 0);
    world.fake.put_words(BASE + 64, &[1]);
    assert_eq!(world.result(number::XEN_VERSION, &[u64::from(XENVER_GET_FEATURES), BASE + 64]), EINVAL);
    let features = world.fake.word(BASE) >> 32;
    assert_eq!(features & (1 << 5 | 1 << 7), 1 << 5 | 1 << 7, "Linux panics without these");
    assert_eq!(features & (1 | 1 << 2 | 1 << 3 | 1 << 11), 0);
}

#[test]
fn segment_bases_are_canonical() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.result(number::SET_SEGMENT_BASE, &[0, 0x7fff_ffff_ffff]), 0);
    assert_eq!(world.result(number::SET_SEGMENT_BASE, &[2, 1 << 47]), EINVAL);
    assert_eq!(world.result(number::SET_SEGMENT_BASE, &[3, u64::MAX]), 0, "a selector never fails");
    assert_eq!(world.result(number::SET_SEGMENT_BASE, &[4, 0]), EINVAL);
    let expected = [(SegmentBase::Fs, 0x7fff_ffff_ffff), (SegmentBase::GsInactive, 0xffff)];
    assert_eq!(world.fake.record.bases, expected);
}

#[test]
fn a_bad_iret_frame_is_the_end() {
    let machine = machine();
    let (next, _) = World::new(&machine).call(number::IRET, &[]);
    assert!(matches!(next, Next::End(End::Crash(Crash::BadIretFrame { .. }))));
}
