use super::*;
use crate::domain::vcpu::IoBitmap;
use crate::emulate::io::nobodys_port;

const IN_DX: [(u8, &[u8], Width); 3] =
    [(1, &[0xec], Width::Byte), (2, &[0x66, 0xed], Width::Word), (1, &[0xed], Width::Dword)];

fn with_iopl(code: &[u8], mode: Mode, iopl: u8) -> Guest {
    let mut guest = Guest::kernel(code);
    guest.vcpu.mode = mode;
    guest.vcpu.control.iopl = iopl;
    guest
}

#[test]
fn the_kernel_needs_level_1_and_users_need_level_3() {
    for code in [&[0xfa][..], &[0xfb], &[0xec], &[0xee], &[0xe4, 0x60], &[0xe6, 0x80]] {
        with_iopl(code, Mode::Kernel, 0).raises(GP);
        with_iopl(code, Mode::User, 2).raises(GP);
        with_iopl(code, Mode::Kernel, 1).runs(code.len() as u64);
        with_iopl(code, Mode::User, 3).runs(code.len() as u64);
        let mut guest = with_iopl(code, Mode::Kernel, 0);
        guest.vcpu.assists.set(pv_abi::trap::VMASST_TYPE_ARCHITECTURAL_IOPL, true);
        guest.runs(code.len() as u64);
    }
}

#[test]
fn cli_and_sti_leave_the_upcall_mask_alone() {
    for (code, mask) in [(0xfa, false), (0xfb, true)] {
        let mut guest = Guest::kernel(&[code]);
        guest.vcpu.info.set_upcall_mask(mask);
        guest.runs(1);
        assert_eq!(guest.vcpu.info.upcall_mask(), u8::from(mask));
        assert_eq!(guest.machine.effects, []);
    }
}

#[test]
fn an_empty_bus_reads_as_ones() {
    let results = [0x1234_5678_9abc_deff, 0x1234_5678_9abc_ffff, 0xffff_ffff];
    for ((length, code, _), result) in IN_DX.into_iter().zip(results) {
        let mut guest = Guest::kernel(code);
        guest.regs.rax = 0x1234_5678_9abc_def0;
        guest.runs(length.into());
        assert_eq!(guest.regs.rax, result);
    }
}

#[test]
fn where_nobody_answers_there_are_ones_but_for_a_clock_that_stands() {
    for width in [Width::Byte, Width::Word, Width::Dword] {
        let zeros = (0..=u16::MAX).filter(|&port| nobodys_port(port, width) != width.mask());
        assert!(zeros.eq([0x42]));
        assert_eq!(nobodys_port(0x42, width), 0);
    }
}

#[test]
fn a_port_cannot_give_more_bits_than_asked_for() {
    let mut guest = Guest::kernel(&[0xe4, 0x64]);
    guest.machine.port = Some(0x1234_5678);
    guest.runs(2);
    assert_eq!(guest.regs.rax, 0x78);
}

#[test]
fn writes_go_to_the_port_named() {
    let mut guest = Guest::kernel(&[0x66, 0xef]);
    (guest.regs.rax, guest.regs.rdx) = (0x1234_5678_9abc_def0, 0xffff_ffff_0000_0cf8);
    guest.runs(2);
    assert_eq!(guest.machine.effects, [Effect::Out(0xcf8, Width::Word, 0xdef0)]);
    let mut guest = Guest::kernel(&[0xe7, 0x80]);
    guest.regs.rax = 0x1_0000_0001;
    guest.runs(2);
    assert_eq!(guest.machine.effects, [Effect::Out(0x80, Width::Dword, 1)]);
}

#[test]
fn the_bitmap_opens_ports_to_users() {
    let mut guest = Guest::user(&[0xec]);
    guest.regs.rdx = 0x66;
    guest.raises(GP);
    guest.vcpu.io_bitmap = IoBitmap { address: DATA, ports: 0x68 };
    let denied = |guest: &mut Guest, ports: &[usize]| {
        let mut bits = [0xff; 0xe];
        ports.iter().for_each(|port| bits[port / 8] &= !(1 << (port % 8)));
        guest.machine.write_bytes(DATA, &bits).unwrap();
    };
    denied(&mut guest, &[0x65, 0x67]);
    guest.raises(GP);
    denied(&mut guest, &[0x66]);
    guest.runs(1);
}

#[test]
fn the_bitmap_speaks_for_each_byte_of_a_port() {
    let mut guest = Guest::user(&[0xed]);
    guest.regs.rdx = 0x66;
    guest.vcpu.io_bitmap = IoBitmap { address: DATA, ports: 0x6a };
    // Four ports in two bytes of the map, all open but one in turn.
    for closed in 0x66..0x6a {
        let mut bits = [0; 0xe];
        bits[closed / 8] = 1 << (closed % 8);
        guest.machine.write_bytes(DATA, &bits).unwrap();
        guest.raises(GP);
    }
    guest.machine.write_bytes(DATA, &[0; 0xe]).unwrap();
    guest.vcpu.io_bitmap.ports = 0x69;
    guest.raises(GP);
    guest.vcpu.io_bitmap = IoBitmap { address: 0xffff_8000_0000_0000, ports: 0x6a };
    guest.raises(GP);
    guest.vcpu.io_bitmap = IoBitmap { address: DATA, ports: 0x6a };
    guest.runs(1);
}

#[test]
fn rep_ins_makes_one_step_per_fault() {
    let mut guest = Guest::kernel(&[0xf3, 0x6d]);
    guest.machine.port = Some(0x0403_0201);
    (guest.regs.rcx, guest.regs.rdi) = (2, DATA);
    assert_eq!(guest.gp(), Outcome::Resume);
    assert_eq!((guest.regs.rip, guest.regs.rcx, guest.regs.rdi), (CODE, 1, DATA + 4));
    // An instruction breakpoint must not fire again.
    assert_ne!(guest.regs.rflags & RFLAGS_RF, 0);
    guest.runs(2);
    assert_eq!((guest.regs.rcx, guest.regs.rdi), (0, DATA + 8));
    let mut stored = [0; 9];
    guest.machine.read_bytes(DATA, &mut stored).unwrap();
    assert_eq!(stored, [1, 2, 3, 4, 1, 2, 3, 4, 0]);
}

#[test]
fn rep_with_count_0_does_nothing() {
    for code in [[0xf3, 0x6c], [0xf3, 0x6e]] {
        let mut guest = Guest::kernel(&code);
        guest.runs(2);
        assert_eq!(guest.machine.effects, []);
        with_iopl(&code, Mode::Kernel, 0).raises(GP);
    }
}

#[test]
fn outs_goes_backwards_and_through_segments() {
    // outs dx, gs:[rsi]
    let mut guest = Guest::kernel(&[0x65, 0x6e]);
    guest.machine.bases = [0, DATA, 0];
    guest.machine.bytes.insert(DATA + 8, 0x5a);
    (guest.regs.rsi, guest.regs.rflags) = (8, guest.regs.rflags | 1 << 10);
    guest.runs(2);
    assert_eq!(guest.regs.rsi, 7);
    assert_eq!(guest.machine.effects, [Effect::Out(0, Width::Byte, 0x5a)]);
}

#[test]
fn addresses_of_32_bits_wrap_and_clear_the_upper_half() {
    let mut guest = Guest::kernel(&[0x67, 0xf3, 0x6e]);
    guest.machine.pages.insert(0xffff_ffff / PAGE_SIZE as u64);
    (guest.regs.rsi, guest.regs.rcx) = (0xabcd_ffff_ffff, 0xff_0000_0001);
    guest.runs(3);
    assert_eq!((guest.regs.rsi, guest.regs.rcx), (0, 0));
}

#[test]
fn memory_that_cannot_be_reached_faults_as_memory() {
    let faults = [
        (&[0x6c][..], Mode::Kernel, 0x60_0000, Outcome::Raise(Exception::with_code(14, 2))),
        (&[0x6e], Mode::Kernel, 0x60_0000, Outcome::Raise(Exception::with_code(14, 0))),
        (&[0x6c], Mode::User, 0xffff_8000_0000_0000, Outcome::Raise(Exception::with_code(14, 6))),
        (&[0x6e], Mode::Kernel, 0x8000_0000_0000, GP),
    ];
    for (code, mode, address, outcome) in faults {
        let mut guest = with_iopl(code, mode, 3);
        (guest.regs.rsi, guest.regs.rdi) = (address, address);
        guest.raises(outcome);
    }
}
