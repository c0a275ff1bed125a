use super::super::debug::{self, DebugRefusal};
use super::*;
use crate::addr::{HYPERVISOR_END, HYPERVISOR_START};
use proptest::prelude::*;

/// `mov crN, rax` and the like.
fn mov(opcode: u8, number: u8) -> [u8; 3] {
    [0x0f, opcode, 0xc0 | number << 3]
}

fn read_cr(number: u8) -> Guest {
    Guest::kernel(&mov(0x20, number))
}

fn write_cr(number: u8, value: u64) -> Guest {
    let mut guest = Guest::kernel(&mov(0x22, number));
    guest.regs.rax = value;
    guest
}

#[test]
fn cr0_is_the_real_one_with_the_guests_ts() {
    let mut guest = read_cr(0);
    guest.vcpu.control.task_switched = true;
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0x8005_003b);
    for (value, on) in [(0x8005_0033, false), (0x8005_003b, true)] {
        let mut guest = write_cr(0, value);
        guest.runs(3);
        assert_eq!(guest.machine.effects, [Effect::TaskSwitched(on)]);
        assert_eq!(guest.vcpu.control.task_switched, on);
    }
    write_cr(0, 0x5_0033).raises(GP);
}

#[test]
fn clts_clears_ts() {
    let mut guest = Guest::kernel(&[0x0f, 0x06]);
    guest.vcpu.control.task_switched = true;
    guest.runs(2);
    assert_eq!(guest.machine.effects, [Effect::TaskSwitched(false)]);
    assert!(!guest.vcpu.control.task_switched);
}

#[test]
fn cr2_is_read_from_the_shared_page() {
    let mut guest = read_cr(2);
    guest.vcpu.info.set_cr2(0xc2);
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0xc2);
    let mut guest = write_cr(2, 1);
    guest.runs(3);
    assert_eq!(guest.vcpu.info.cr2(), 1);
}

#[test]
fn cr3_is_the_kernels_root() {
    let mut guest = read_cr(3);
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0x0123_4000);
    let mut guest = write_cr(3, 0x5000);
    guest.runs(3);
    assert_eq!(guest.machine.effects, [Effect::Root(Mfn(5))]);
    let mut guest = write_cr(3, 0x5000);
    guest.machine.refuses = true;
    guest.raises(GP);
}

#[test]
fn cr4_takes_the_guests_bits_and_ignores_the_others() {
    for (written, seen) in [(0x1_0660, 0x1_0660), (0x5_0660, 0x5_0660), (u64::MAX, 0x5_066c), (0, 0x660)] {
        let mut guest = write_cr(4, written);
        guest.runs(3);
        assert_eq!(guest.machine.effects, [Effect::Cr4(seen)]);
        assert_eq!(guest.vcpu.control.cr4, seen);
    }
    let mut guest = write_cr(4, u64::MAX);
    guest.machine.policy = CpuidPolicy::new(cpuid::tests::old_host);
    guest.runs(3);
    assert_eq!(guest.vcpu.control.cr4, 0x66c);
    let mut guest = read_cr(4);
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0x660);
}

#[test]
fn cr8_is_nobodys() {
    Guest::kernel(&[0x44, 0x0f, 0x20, 0xc0]).raises(GP);
    Guest::kernel(&[0x44, 0x0f, 0x22, 0xc0]).raises(GP);
}

#[test]
fn operands_reach_all_registers() {
    let mut guest = Guest::kernel(&[0x41, 0x0f, 0x20, 0xdf]);
    guest.runs(4);
    assert_eq!(guest.regs.r15, 0x0123_4000);
}

fn xsetbv(osxsave: bool, rcx: u64, value: u64) -> Guest {
    let mut guest = Guest::kernel(&[0x0f, 0x01, 0xd1]);
    guest.vcpu.control.cr4 |= if osxsave { 1 << 18 } else { 0 };
    guest.regs.rcx = rcx;
    (guest.regs.rax, guest.regs.rdx) = (value & 0xffff_ffff, value >> 32);
    guest
}

#[test]
fn xsetbv_takes_what_leaf_d_offers() {
    let mut guest = xsetbv(true, 0, 0xe7);
    guest.runs(3);
    assert_eq!(guest.machine.effects, [Effect::Xcr0(0xe7)]);
    assert_eq!(guest.vcpu.control.xcr0, 0xe7);
    // Not x87; AVX without SSE; a part of AVX-512; PKRU; AMX; bit 63.
    for bad in [0, 6, 5, 0x27, 0xe3, 0x207, 0x6_00e7, 1 << 63 | 7] {
        xsetbv(true, 0, bad).raises(GP);
    }
    xsetbv(true, 1, 7).raises(GP);
    xsetbv(false, 0, 7).raises(UD);
}

#[test]
fn rdtsc_faults_for_users_if_their_kernel_says_so() {
    let mut guest = Guest::user(&[0x0f, 0x01, 0xf9]);
    guest.vcpu.control.tsc_aux = 9;
    guest.runs(3);
    assert_eq!((guest.regs.rdx, guest.regs.rax, guest.regs.rcx), (0x1111, 0x2222_3333, 9));
    let mut guest = Guest::user(&[0x0f, 0x31]);
    guest.vcpu.control.cr4 |= 1 << 2;
    guest.raises(GP);
    guest.vcpu.mode = Mode::Kernel;
    guest.runs(2);
}

#[test]
fn caches_are_written_back_never_thrown_away() {
    for opcode in [0x08, 0x09] {
        let mut guest = Guest::kernel(&[0x0f, opcode]);
        guest.runs(2);
        assert_eq!(guest.machine.effects, [Effect::Caches]);
    }
}

#[test]
fn what_hypercalls_are_for_faults() {
    let refused: [&[u8]; 13] = [
        &[0xf4],
        &[0x0f, 0x01, 0xf0],
        &[0x0f, 0x01, 0x38],
        &[0x0f, 0x01, 0x10],
        &[0x0f, 0x01, 0x18],
        &[0x0f, 0x00, 0xd0],
        &[0x0f, 0x00, 0xd8],
        &[0x0f, 0x01, 0xf8],
        &[0x0f, 0x07],
        &[0xcf],
        &[0x0f, 0x33],
        &[0x0f, 0x01, 0xc8],
        &[0x0f, 0x01, 0xca],
    ];
    for code in refused {
        Guest::kernel(code).raises(GP);
    }
}

#[test]
fn users_have_no_privileges() {
    let kernel_only: [&[u8]; 8] = [
        &[0x0f, 0x06],
        &mov(0x20, 0),
        &mov(0x22, 4),
        &mov(0x21, 7),
        &mov(0x23, 7),
        &[0x0f, 0x01, 0xd1],
        &[0x0f, 0x09],
        &[0xfa],
    ];
    for code in kernel_only {
        Guest::user(code).raises(GP);
    }
}

#[test]
fn debug_registers_move() {
    let mut guest = Guest::kernel(&mov(0x23, 1));
    guest.regs.rax = 0x1234;
    guest.runs(3);
    assert_eq!(guest.machine.effects, [Effect::Debug([0, 0x1234, 0, 0, 0, 0, 0xffff_0ff0, 0x400])]);
    let mut guest = Guest::kernel(&mov(0x21, 7));
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0x400);
    for bad in [HYPERVISOR_START, HYPERVISOR_END - 1, 0x8000_0000_0000] {
        let mut guest = Guest::kernel(&mov(0x23, 0));
        guest.regs.rax = bad;
        guest.raises(GP);
    }
}

#[test]
fn debug_registers_4_and_5_exist_without_cr4_de() {
    let mut guest = Guest::kernel(&mov(0x21, 4));
    guest.runs(3);
    assert_eq!(guest.regs.rax, 0xffff_0ff0);
    let mut guest = Guest::kernel(&mov(0x21, 5));
    guest.vcpu.control.cr4 |= 1 << 3;
    guest.raises(UD);
}

#[test]
fn dr7_never_traps_the_hypervisor() {
    let mut control = Control::NEW;
    assert_eq!(debug::write(&mut control, 7, 1 << 13), Err(DebugRefusal::GeneralDetect));
    assert_eq!(debug::write(&mut control, 7, 1 << 32), Err(DebugRefusal::HighBits));
    assert_eq!(debug::write(&mut control, 7, 0x2_0003), Err(DebugRefusal::PortBreakpoint));
    assert_eq!(control, Control::NEW);
    // A disabled one may say anything.
    assert_eq!(debug::write(&mut control, 7, 0x2_0000), Ok(()));
    control.cr4 |= 1 << 3;
    assert_eq!(debug::write(&mut control, 7, 0x12_000f), Ok(()));
    assert_eq!(debug::read(&control, 7), Ok(0x12_040f));
    assert_eq!(debug::hardware_registers(&control)[7], 0x12_040c);
}

proptest! {
    #[test]
    fn debug_registers_hold_nothing_dangerous(number in 0u8..10, value: u64, de: bool) {
        let mut control = Control::NEW;
        control.cr4 |= if de { 1 << 3 } else { 0 };
        let before = control;
        match debug::write(&mut control, number, value) {
            Err(_) => prop_assert_eq!(control, before),
            Ok(()) => {
                let [dr0, dr1, dr2, dr3, _, _, dr6, dr7] = debug::hardware_registers(&control);
                prop_assert!([dr0, dr1, dr2, dr3].iter().all(|&address| GuestVa::new(address).is_some()));
                prop_assert_eq!(dr6 & 0xffff_ffff_ffff_1ff0, 0xffff_0ff0);
                prop_assert_eq!(dr7 >> 32 | dr7 & 0xfc00, 0x400);
                for index in 0..4 {
                    prop_assert!(dr7 >> (2 * index) & 3 == 0 || dr7 >> (16 + 4 * index) & 3 != 2);
                }
            }
        }
    }

    #[test]
    fn xcr0_is_valid_as_the_manual_says(value in 0u64..0x400, offered in 0u64..0x400) {
        let bit = |n: u32| value >> n & 1;
        let avx512 = bit(5) + bit(6) + bit(7);
        let naive = value & !offered == 0
            && bit(0) == 1
            && (bit(2) == 0 || bit(1) == 1)
            && (avx512 == 0 || avx512 == 3 && bit(2) == 1);
        prop_assert_eq!(xcr0::is_valid(value, offered), naive);
    }
}
