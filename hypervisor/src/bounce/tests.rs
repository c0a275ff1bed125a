use super::*;
use crate::addr::{DomainId, Mfn, VcpuId};
use crate::domain::link::VcpuLink;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::Gate;
use crate::guest::Fault;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec::Vec;

/// Guest memory in words; what isn't there faults. Records mode switches.
#[derive(Default)]
struct Space {
    words: BTreeMap<u64, u64>,
    writable: bool,
    switches: Vec<Mode>,
}

impl GuestCopy for Space {
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        crate::guest::check_span(from, buf.len())?;
        for (index, chunk) in buf.chunks_mut(8).enumerate() {
            let address = from + 8 * index as u64;
            let word = self.words.get(&address).ok_or(Fault(address))?;
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }

    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        crate::guest::check_span(to, bytes.len())?;
        if !self.writable {
            return Err(Fault(to));
        }
        for (index, chunk) in bytes.chunks(8).enumerate() {
            self.words.insert(to + 8 * index as u64, u64::from_le_bytes(chunk.try_into().unwrap()));
        }
        Ok(())
    }
}

impl GuestSpace for Space {
    fn switch_mode(&mut self, vcpu: &Vcpu, to: Mode) {
        assert_ne!(vcpu.mode, to);
        self.switches.push(to);
    }
}

fn vcpu() -> Vcpu {
    let info = Box::leak(Box::new(VcpuInfo::default()));
    let vcpu = Vcpu::new(&VcpuLink::new(DomainId(1), VcpuId(0), info), Arc::default());
    Vcpu { kernel_sp: 0xffff_8800_0000_3008, ..vcpu }
}

fn registers() -> GuestRegisters {
    GuestRegisters {
        rcx: 0xc,
        r11: 0x11,
        rip: 0x1000,
        cs: 0xe033,
        rflags: 0x202 | flags::AC | flags::TF,
        rsp: 0x7008,
        ss: 0xe02b,
        ..Default::default()
    }
}

#[test]
fn an_exception_in_the_kernel_lands_below_its_stack_pointer() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space { writable: true, ..Default::default() };
    vcpu.gates[14] = Gate { address: 0xabc, dpl: 0, masks_events: true };
    exception(&mut vcpu, &mut regs, &mut space, Exception::with_code(14, 6)).unwrap();
    let frame: Vec<u64> = (0..8).map(|index| space.words[&(0x7000 - 64 + 8 * index)]).collect();
    assert_eq!(frame, [0xc, 0x11, 6, 0x1000, 0xe030, 0x202 | flags::AC | flags::TF, 0x7008, 0xe02b]);
    assert_eq!((regs.rip, regs.rsp, regs.cs, regs.ss), (0xabc, 0x7000 - 64, 0xe033, 0xe02b));
    assert_eq!(regs.rflags, 0x202);
    assert_eq!(vcpu.info.upcall_mask(), 1);
    assert!(space.switches.is_empty());
}

#[test]
fn an_exception_in_user_mode_switches_to_the_kernel_stack_first() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space { writable: true, ..Default::default() };
    vcpu.mode = Mode::User;
    vcpu.info.set_upcall_mask(true);
    vcpu.gates[6].address = 0xabc;
    exception(&mut vcpu, &mut regs, &mut space, Exception::new(6)).unwrap();
    assert_eq!(space.switches, [Mode::Kernel]);
    assert_eq!(vcpu.mode, Mode::Kernel);
    let base = 0xffff_8800_0000_3000 - 56;
    assert_eq!(regs.rsp, base);
    assert_eq!(space.words[&(base + 24)], 0xe033 | 1 << 32, "CS with the saved mask above it");
    assert_eq!(space.words[&(base + 32)] & flags::IF, 0, "IF is the inverse of the mask");
}

#[test]
fn a_guest_without_handler_or_stack_has_ended() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space::default();
    let end = exception(&mut vcpu, &mut regs, &mut space, Exception::new(13));
    assert_eq!(end, Err(Crash::NoHandler { vector: 13 }));
    vcpu.gates[13].address = 1;
    regs.rsp = 0xffff_8100_0000_0000;
    space.writable = true;
    let end = exception(&mut vcpu, &mut regs, &mut space, Exception::new(13));
    assert!(matches!(end, Err(Crash::BadStack { .. })), "a stack in the hypervisor's range");
    regs.rsp = 0xffff_8800_0000_0010;
    let end = exception(&mut vcpu, &mut regs, &mut space, Exception::new(13));
    assert!(matches!(end, Err(Crash::BadStack { .. })), "a frame that reaches into the hypervisor's range");
    assert!(matches!(upcall(&mut vcpu, &mut regs, &mut space), Err(Crash::NoCallback { .. })));
}

#[test]
fn a_system_call_nobody_serves_is_an_invalid_opcode_at_the_instruction() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space { writable: true, ..Default::default() };
    vcpu.mode = Mode::User;
    vcpu.gates[6].address = 0xabc;
    user_call(&mut vcpu, &mut regs, &mut space, UserCall::Syscall).unwrap();
    assert_eq!(space.words[&(regs.rsp + 16)], 0x0ffe);
}

#[test]
fn iret_needs_user_tables_to_leave_the_kernel() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space::default();
    regs.rsp = 0x2000;
    assert_eq!(iret(&mut vcpu, &mut regs, &mut space), Err(Crash::BadIretFrame { address: 0x2000 }));
    let frame = [1, 2, 3, 0, 0x4000, 0xe033, 0x246, 0x5000, 0xe02b];
    space.words = (0..9).map(|index| 0x2000 + 8 * index).zip(frame).collect();
    assert_eq!(iret(&mut vcpu, &mut regs, &mut space), Err(Crash::NoUserTables));
    vcpu.roots.user = Some(Mfn(2));
    assert_eq!(iret(&mut vcpu, &mut regs, &mut space), Ok(Return::Full));
    assert_eq!((regs.rax, regs.r11, regs.rcx, regs.rip), (1, 2, 3, 0x4000));
    assert_eq!(space.switches, [Mode::User]);
    assert_eq!(vcpu.info.upcall_mask(), 0);
}

proptest! {
    // Whatever a guest asks for: ring 3, interrupts on, no I/O privilege, no virtual-8086 mode.
    #[test]
    fn iret_never_grants_privilege(frame in proptest::array::uniform9(any::<u64>()), user: bool) {
        let (mut vcpu, mut regs) = (vcpu(), registers());
        let mut space = Space::default();
        vcpu.roots.user = user.then_some(Mfn(2));
        regs.rsp = 0x2000;
        space.words = (0..9).map(|index| 0x2000 + 8 * index).zip(frame).collect();
        if iret(&mut vcpu, &mut regs, &mut space).is_ok() {
            prop_assert_eq!(regs.cs & 3, 3);
            prop_assert_eq!(regs.ss & 3, 3);
            prop_assert!(regs.cs <= 0xffff && regs.ss <= 0xffff);
            prop_assert_eq!(regs.rflags & (flags::IF | flags::RESERVED_ONE), flags::IF | flags::RESERVED_ONE);
            prop_assert_eq!(regs.rflags & (flags::IOPL | flags::VM), 0);
            prop_assert_eq!(vcpu.mode == Mode::User, frame[5] & 3 == 3);
        }
    }

    // A frame that was delivered and handed back by `iret` restores what the guest had.
    #[test]
    fn iret_undoes_an_exception(rip: u64, rsp in 0x1_0000_u64..0x7fff_ffff_0000, rcx: u64, r11: u64, masked: bool) {
        let mut vcpu = vcpu();
        let before = GuestRegisters { rip, rsp, rcx, r11, rflags: 0x202, ..registers() };
        let mut regs = before;
        let mut space = Space { writable: true, ..Default::default() };
        vcpu.info.set_upcall_mask(masked);
        vcpu.gates[3] = Gate { address: 0xabc, dpl: 3, masks_events: true };
        exception(&mut vcpu, &mut regs, &mut space, Exception::new(3)).unwrap();
        // What a guest kernel does: pop RCX and R11, push RAX, R11, RCX, flags in their place.
        let base = regs.rsp;
        let (rcx, r11) = (space.words[&base], space.words[&(base + 8)]);
        space.words.insert(base + 8, 0);
        space.words.insert(base, rcx);
        space.words.insert(base - 8, r11);
        space.words.insert(base - 16, before.rax);
        regs.rsp = base - 16;
        iret(&mut vcpu, &mut regs, &mut space).unwrap();
        prop_assert_eq!(regs, before);
        prop_assert_eq!(vcpu.info.upcall_mask() != 0, masked);
    }
}

#[test]
fn the_system_call_interrupt_is_open_to_users_once_it_has_a_handler() {
    let (mut vcpu, mut regs) = (vcpu(), registers());
    let mut space = Space { writable: true, ..Space::default() };
    vcpu.mode = Mode::User;
    regs.rip = 0x1002;
    vcpu.gates[13].address = 0xd00;
    assert_eq!(system_call_interrupt(&mut vcpu, &mut regs, &mut space), Ok(Return::RcxR11Free));
    assert_eq!((regs.rip, vcpu.mode), (0xd00, Mode::Kernel));
    let word = |space: &Space, index: u64| space.words[&(regs.rsp + 8 * index)];
    assert_eq!((word(&space, 2), word(&space, 3)), (0x402, 0x1000), "a #GP at the instruction");

    (vcpu.mode, regs.rip) = (Mode::User, 0x1002);
    vcpu.gates[0x80] = Gate { address: 0x8000, dpl: 0, masks_events: false };
    assert_eq!(system_call_interrupt(&mut vcpu, &mut regs, &mut space), Ok(Return::RcxR11Free));
    assert_eq!((regs.rip, space.words[&(regs.rsp + 16)]), (0x8000, 0x1002));
}
