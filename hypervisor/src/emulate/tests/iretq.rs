//! `iretq` that reads its frame with the rights of ring 0.

use super::super::iretq::iretq;
use super::*;

const IRETQ: [u8; 2] = [0x48, 0xcf];
const CARRY: u64 = 1;

/// A kernel that executes `code` with this frame at its stack pointer.
fn guest(code: &[u8], frame: [u64; 5]) -> Guest {
    let mut guest = Guest::kernel(code);
    guest.regs.rsp = DATA + 0x100;
    guest.machine.write(DATA + 0x100, &frame).unwrap();
    guest
}

fn run(guest: &mut Guest) -> Option<Outcome> {
    iretq(&mut guest.vcpu, &mut guest.regs, &mut guest.machine)
}

#[test]
fn the_frame_is_loaded() {
    let mut guest = guest(&IRETQ, [0x1234, 0xe033, CARRY, DATA, 0xe02b]);
    assert_eq!(run(&mut guest), Some(Outcome::Resume));
    let regs = guest.regs;
    // Interrupts stay on, whatever the frame says.
    assert_eq!((regs.rip, regs.cs, regs.rflags, regs.rsp, regs.ss), (0x1234, 0xe033, CARRY | 0x202, DATA, 0xe02b));
}

#[test]
fn what_a_guest_may_not_load_is_its_fault() {
    let cases = [
        ([0x1234, 0xe008, 2, DATA, 0xe02b], Exception::with_code(13, 0xe008)),
        ([0x1234, 0xe033, 2, DATA, 0xe010], Exception::with_code(13, 0xe010)),
        ([1 << 47, 0xe033, 2, DATA, 0xe02b], Exception::with_code(13, 0)),
    ];
    for (frame, exception) in cases {
        let mut guest = guest(&IRETQ, frame);
        let before = guest.regs;
        assert_eq!(run(&mut guest), Some(Outcome::Raise(exception)));
        assert_eq!(guest.regs, before);
    }
    let mut guest = guest(&IRETQ, [0x1234, 0xe033, 3 << 12 | 1 << 17 | 2, DATA, 0xe02b]);
    assert_eq!(run(&mut guest), Some(Outcome::Resume));
    assert_eq!(guest.regs.rflags, 0x202);
}

#[test]
fn a_step_ends_behind_it() {
    let mut guest = guest(&IRETQ, [0x1234, 0xe033, 2, DATA, 0xe02b]);
    guest.regs.rflags |= RFLAGS_TF;
    assert_eq!(run(&mut guest), Some(Outcome::Raise(Exception::new(1))));
    assert_eq!(guest.regs.rip, 0x1234);
}

#[test]
fn everything_else_is_the_guests_own() {
    let frame = [0x1234, 0xe033, 2, DATA, 0xe02b];
    for code in [&[0xcf_u8][..], &[0x66, 0xcf], &[0x48, 0xcb], &[0x48], &[]] {
        assert_eq!(run(&mut guest(code, frame)), None);
    }
    let mut unreadable = guest(&IRETQ, frame);
    unreadable.regs.rsp = 0xffff_8000_0000_0000;
    assert_eq!(run(&mut unreadable), None);
    let mut user = guest(&IRETQ, frame);
    user.vcpu.mode = Mode::User;
    assert_eq!(run(&mut user), None);
    let mut compatible = guest(&IRETQ, frame);
    compatible.regs.cs = 0xe023;
    assert_eq!(run(&mut compatible), None);
}
