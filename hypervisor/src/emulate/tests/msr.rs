use super::*;
use proptest::prelude::*;

const RDMSR: [u8; 2] = [0x0f, 0x32];
const WRMSR: [u8; 2] = [0x0f, 0x30];

fn read(vcpu: u32, msr: u32) -> Option<u64> {
    let mut guest = Guest::kernel(&RDMSR);
    guest.vcpu.id = VcpuId(vcpu);
    guest.vcpu.control.tsc_aux = 7;
    guest.regs.rcx = 0xffff_0000_0000_0000 | u64::from(msr);
    (guest.regs.rax, guest.regs.rdx) = (u64::MAX, u64::MAX);
    match guest.gp() {
        Outcome::Resume => Some(guest.regs.rdx << 32 | guest.regs.rax),
        outcome => {
            assert_eq!(outcome, GP);
            None
        }
    }
}

fn write(msr: u32, value: u64) -> (Outcome, Guest) {
    let mut guest = Guest::kernel(&WRMSR);
    guest.regs.rcx = msr.into();
    guest.regs.rax = 0xaaaa_0000_0000_0000 | value & 0xffff_ffff;
    guest.regs.rdx = 0xbbbb_0000_0000_0000 | value >> 32;
    (guest.gp(), guest)
}

#[test]
fn the_msrs_that_linux_cannot_boot_without() {
    assert_eq!(read(0, 0x1b), Some(0xfee0_0900));
    assert_eq!(read(1, 0x1b), Some(0xfee0_0800));
    assert_eq!(read(0, 0xc000_0102), Some(0x30));
    let (outcome, guest) = write(0xc000_0101, 0xffff_ffff_8100_0000);
    assert_eq!(outcome, Outcome::Resume);
    assert_eq!(guest.machine.effects, [Effect::Base(SegmentBase::GsActive, 0xffff_ffff_8100_0000)]);
}

#[test]
fn the_others_that_exist() {
    assert_eq!(read(0, 0xc000_0100), Some(0x10));
    assert_eq!(read(0, 0xc000_0101), Some(0x20));
    assert_eq!(read(0, 0xc000_0103), Some(7));
    assert_eq!(read(0, 0xc000_0080), Some(0xd01));
    assert_eq!(read(0, 0x277), Some(0x0501_0007_0406));
    assert_eq!(write(0xc000_0080, 0xd01).0, Outcome::Resume);
    assert_eq!(write(0xc000_0080, 0xd00).0, GP);
    assert_eq!(write(0x277, 0).0, Outcome::Resume);
    assert_eq!(write(0xc000_0103, 5).1.machine.effects, [Effect::TscAux(5)]);
    assert_eq!(write(0xc000_0103, 1 << 32).0, GP);
    assert_eq!(write(0x1b, 0xfee0_0900).0, GP);
}

#[test]
fn a_base_must_be_canonical() {
    for msr in [0xc000_0100, 0xc000_0101, 0xc000_0102] {
        for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            let (outcome, guest) = write(msr, bad);
            assert_eq!(outcome, GP);
            assert_eq!(guest.machine.effects, []);
        }
        assert_eq!(write(msr, 0x7fff_ffff_ffff).0, Outcome::Resume);
    }
}

#[test]
fn a_hypercall_page_has_index_0() {
    assert_eq!(write(0x4000_0000, 0x5000).1.machine.effects, [Effect::HypercallPage(Mfn(5))]);
    assert_eq!(write(0x4000_0000, 0x5001).0, GP);
    let mut guest = Guest::kernel(&WRMSR);
    guest.machine.refuses = true;
    guest.regs.rcx = 0x4000_0000;
    guest.raises(GP);
}

#[test]
fn a_cpu_without_tsc_aux_is_not_asked_for_it() {
    let mut guest = Guest::kernel(&WRMSR);
    guest.machine.policy = CpuidPolicy::new(cpuid::tests::old_host);
    guest.regs.rcx = 0xc000_0103;
    guest.raises(GP);
}

/// Linux writes and reads them without a care on Intel's CPUs, and shows a backtrace when they fault.
#[test]
fn intels_own() {
    let fast_strings_without_tracing = 0x1801;
    assert_eq!(write(0x8b, 0).0, Outcome::Resume);
    assert_eq!(read(0, 0x8b), Some(0));
    assert_eq!(write(0x8b, 1).0, GP);
    assert_eq!(read(0, 0x1a0), Some(fast_strings_without_tracing));
    assert_eq!(write(0x1a0, fast_strings_without_tracing).0, Outcome::Resume);
    assert_eq!(write(0x1a0, fast_strings_without_tracing | 1 << 22).0, GP);
    for (msr, code) in [(0x8b, RDMSR), (0x8b, WRMSR), (0x1a0, RDMSR), (0x1a0, WRMSR)] {
        let mut guest = Guest::kernel(&code);
        guest.machine.policy = CpuidPolicy::new(cpuid::tests::old_host);
        guest.regs.rcx = msr;
        guest.raises(GP);
    }
}

#[test]
fn users_have_no_msrs() {
    for code in [RDMSR, WRMSR] {
        let mut guest = Guest::user(&code);
        guest.regs.rcx = 0xc000_0101;
        guest.raises(GP);
    }
}

proptest! {
    #[test]
    fn unknown_msrs_fault(msr: u32) {
        const KNOWN: [u32; 9] = [0x1b, 0x8b, 0x1a0, 0x277, 0xc000_0080, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0xc000_0103];
        prop_assume!(!KNOWN.contains(&msr));
        prop_assert_eq!(read(0, msr), None);
    }
}
