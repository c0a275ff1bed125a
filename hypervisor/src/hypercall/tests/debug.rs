//! `set_debugreg` and `get_debugreg`.

use super::*;

const ENODEV: i64 = Errno::ENODEV.code();

#[test]
fn registers_are_loaded_and_read_back() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.result(number::SET_DEBUGREG, &[2, 0x1234]), 0);
    assert_eq!(world.result(number::SET_DEBUGREG, &[7, 0x10]), 0);
    assert_eq!(world.result(number::GET_DEBUGREG, &[2]), 0x1234);
    assert_eq!(world.result(number::GET_DEBUGREG, &[7]), 0x410);
    assert_eq!(world.fake.record.debug_registers, Some([0, 0, 0x1234, 0, 0, 0, 0xffff_0ff0, 0x410]));
    assert_eq!(world.result(number::GET_DEBUGREG, &[1 << 32 | 2]), 0x1234, "32 bits count");
}

#[test]
fn no_breakpoint_is_outside_the_guest() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for (register, value, errno) in [
        (8, 0, ENODEV),
        (256, 0, ENODEV),
        (u64::from(u32::MAX), 0, ENODEV),
        (0, 0xffff_8000_0000_0000, EPERM),
        (3, 1 << 47, EPERM),
        (6, 1 << 32, EINVAL),
        (7, 1 << 13, EPERM),
        (7, 2 << 16 | 1, EPERM),
    ] {
        assert_eq!(world.result(number::SET_DEBUGREG, &[register, value]), errno, "{register} {value:#x}");
    }
    assert_eq!(world.fake.record.debug_registers, None);
    assert_eq!(world.result(number::GET_DEBUGREG, &[8]), ENODEV);
    assert_eq!(world.result(number::GET_DEBUGREG, &[u64::MAX]), ENODEV);
}
