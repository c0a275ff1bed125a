//! `vcpu_op`: vCPUs come up and go down, what they start with, their timers and records.

use super::fake::PARKED;
use super::requests::*;
use super::world::*;
use super::*;
use crate::bounce::Return;
use crate::domain::ShutdownReason;
use crate::domain::vcpu::Mode;
use crate::mm::state::FrameType;
use pv_abi::vcpu::*;
use std::boxed::Box;
use zerocopy::{FromZeros, IntoBytes};

const OTHER: u64 = PARKED as u64;
const MILLISECOND: u64 = 1_000_000;

impl World<'_> {
    fn vcpu_op(&mut self, command: u32, vcpu: u64) -> i64 {
        self.result(number::VCPU_OP, &[command.into(), vcpu, REQUEST])
    }

    fn link(&self, vcpu: u64) -> &crate::domain::link::VcpuLink {
        &self.fake.domains[self.fake.domain].events.vcpus()[vcpu as usize]
    }
}

/// A context for a vCPU of the calling domain, in its own page tables.
pub fn context(world: &World<'_>) -> Box<VcpuGuestContext> {
    let mut context = VcpuGuestContext::new_box_zeroed().unwrap();
    context.flags = VcpuContextFlags::IN_KERNEL.bits();
    context.user_regs = CpuUserRegs {
        rip: 0xffff_8800_0000_1000,
        rsp: 0xffff_8800_0000_2000,
        rdi: 77,
        cs: 0x10,
        ss: 0x18,
        rflags: 0x1000,
        ..CpuUserRegs::default()
    };
    context.trap_ctxt[14].address = 0xffff_8800_0000_3000;
    context.trap_ctxt[3].flags = 3;
    context.ctrlreg[3] = world.mfn(L4).base().0;
    context.gdt_frames[0] = world.mfn(DATA + 6).0;
    context.gdt_ents = 16;
    context.kernel_sp = 0xffff_8800_0000_4000;
    context.event_callback_eip = 0xffff_8800_0000_5000;
    context.gs_base_kernel = 0xffff_8800_0000_6000;
    context
}

#[test]
fn vcpus_are_counted_up_to_enoent() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!([0, 1, 2].map(|vcpu| world.vcpu_op(VCPUOP_IS_UP, vcpu)), [1, 0, 0]);
    assert_eq!(world.vcpu_op(VCPUOP_IS_UP, 3), ENOENT);
    assert_eq!(world.vcpu_op(VCPUOP_IS_UP, u64::from(u32::MAX)), ENOENT);
    assert_eq!(world.vcpu_op(99, 0), ENOSYS);
    assert_eq!(world.vcpu_op(VCPUOP_GET_PHYSID, 0), EINVAL);
}

#[test]
fn a_vcpu_starts_with_what_it_was_given() {
    let machine = machine();
    let mut world = World::new(&machine);
    assert_eq!(world.vcpu_op(VCPUOP_UP, OTHER), EINVAL, "it has no state yet");
    let context = context(&world);
    world.fake.put(REQUEST, context.as_bytes());
    assert_eq!(world.vcpu_op(VCPUOP_INITIALISE, OTHER), 0);
    assert_eq!(world.vcpu_op(VCPUOP_INITIALISE, OTHER), EEXIST);
    assert_eq!(world.vcpu_op(VCPUOP_INITIALISE, 0), EEXIST, "the calling one");
    assert_eq!(world.kind(DATA + 6), FrameType::Descriptors);
    let domain = world.fake.domain;
    let parked = &world.fake.parked[domain];
    let vcpu = &parked.vcpu;
    assert_eq!((vcpu.mode, vcpu.roots.kernel, vcpu.roots.user), (Mode::Kernel, Some(world.mfn(L4)), None));
    assert_eq!((vcpu.regs.rip, vcpu.regs.rdi), (0xffff_8800_0000_1000, 77));
    assert_eq!((vcpu.regs.cs, vcpu.regs.ss), (0x13, 0x1b), "ring 3, whatever it asked for");
    assert_eq!((vcpu.control.iopl, vcpu.regs.rflags & 0x3200), (1, 0x200), "its IOPL is kept apart, interrupts are on");
    assert_eq!((vcpu.gates[14].address, vcpu.gates[3].dpl), (0xffff_8800_0000_3000, 3));
    assert_eq!(vcpu.callbacks.event.address, 0xffff_8800_0000_5000);
    assert_eq!(parked.cpu.map(|cpu| cpu.bases), Some([0, 0xffff_8800_0000_6000, 0]));
    assert_eq!(world.vcpu_op(VCPUOP_UP, OTHER), 0);
    assert_eq!(world.vcpu_op(VCPUOP_IS_UP, OTHER), 1);
    world.end();
}

#[test]
fn a_bad_state_is_refused_whole() {
    let bad: [fn(&mut VcpuGuestContext); 12] = [
        |context| context.user_regs.rip = 1 << 47,
        |context| context.trap_ctxt[255].address = 1 << 63,
        |context| context.event_callback_eip = 1 << 47,
        |context| context.syscall_callback_eip = 1 << 47,
        |context| context.fs_base = 1 << 47,
        |context| context.gs_base_user = 1 << 47,
        |context| (context.ldt_base, context.ldt_ents) = (1, 1),
        |context| context.ldt_ents = 1 << 32,
        |context| context.gdt_ents = 14 * 512 + 1,
        |context| context.gdt_frames[0] = u64::MAX,
        |context| context.ctrlreg[3] = u64::MAX,
        |context| context.ctrlreg[1] = context.gdt_frames[0] << 12,
    ];
    for (n, bad) in bad.iter().enumerate() {
        let machine = machine();
        let mut world = World::new(&machine);
        // The page of the GDT is no table.
        world.write(DATA + 6, 0, u64::MAX);
        let mut context = context(&world);
        bad(&mut context);
        world.fake.put(REQUEST, context.as_bytes());
        assert_eq!(world.vcpu_op(VCPUOP_INITIALISE, OTHER), EINVAL, "{n}");
        let parked = &world.fake.parked[world.fake.domain];
        assert_eq!((parked.vcpu.roots.kernel, parked.vcpu.gdt.len(), parked.cpu), (None, 0, None), "{n}");
        assert_eq!(world.vcpu_op(VCPUOP_UP, OTHER), EINVAL);
        world.end();
    }
}

#[test]
fn the_last_vcpu_that_goes_down_ends_the_domain() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.link(1).set_up(true);
    assert_eq!(world.vcpu_op(VCPUOP_DOWN, 1), 0);
    assert_eq!(world.vcpu_op(VCPUOP_DOWN, 1), 0);
    let (next, _) = world.call(number::VCPU_OP, &[VCPUOP_DOWN.into(), 0]);
    assert_eq!(next, Next::End(End::Shutdown(ShutdownReason::Poweroff)));
}

#[test]
fn event_flags_move_once() {
    let machine = machine();
    let mut world = World::new(&machine);
    let (page, table) = (world.mfn(DATA + 6).0, world.mfn(L1).0);
    let mut register = |vcpu, mfn, offset| {
        world.fake.put_words(REQUEST, &[mfn, offset]);
        world.vcpu_op(VCPUOP_REGISTER_VCPU_INFO, vcpu)
    };
    assert_eq!(register(0, page, 4033), EINVAL, "it would cross the page's end");
    assert_eq!(register(0, page, 0xffff_ffc0), EINVAL);
    assert_eq!(register(0, page, 4), EINVAL, "not aligned");
    assert_eq!(register(0, table, 0), EINVAL, "a page table");
    assert_eq!(register(0, u64::MAX, 0), EINVAL);
    assert_eq!(register(1, page, 0), EINVAL, "it may run");
    assert_eq!(register(0, page, 4032), 0);
    assert_eq!(register(0, page, 0), EBUSY);
    assert_eq!(register(OTHER, page, 64), 0);
    assert!(world.vcpu().info.upcall_pending());
    assert_eq!(world.state(DATA + 6).type_references(), 2);
    world.end();
}

#[test]
fn timers() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let now = world.fake.now;
    assert_eq!(world.vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, 0), 0);
    world.fake.put_words(REQUEST, &[now + 5, 0]);
    assert_eq!(world.vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0), 0);
    assert_eq!(world.vcpu().timers.deadline(), Some(now + 5));
    assert_eq!(world.vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 1), EINVAL, "another's");
    assert_eq!(world.vcpu_op(VCPUOP_STOP_SINGLESHOT_TIMER, 1), EINVAL);
    world.fake.put_words(REQUEST, &[now - 5, 1]);
    assert_eq!(world.vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0), Errno::ETIME.code(), "it was to be in the future");
    world.fake.put_words(REQUEST, &[now - 5, 0]);
    assert_eq!(world.vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0), 0);
    assert!(world.vcpu().timers.expire(now));
    assert_eq!(world.result(number::SET_TIMER_OP, &[now + 9]), 0);
    assert_eq!(world.fake.record.timers.last(), Some(&Some(now + 9)));
    assert_eq!(world.result(number::SET_TIMER_OP, &[0]), 0);
    assert_eq!(world.vcpu().timers.deadline(), None);
    for vcpu in [0, 1, OTHER] {
        world.fake.put_words(REQUEST, &[MILLISECOND]);
        assert_eq!(world.vcpu_op(VCPUOP_SET_PERIODIC_TIMER, vcpu), 0);
    }
    // One that may be running is asked, and wakes for that.
    assert!(world.link(1).has_reason_to_wake());
    assert_eq!((world.link(1).take_period(), world.link(1).take_period()), (Some(Some(MILLISECOND)), None));
    assert_eq!(world.vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, 1), 0);
    assert_eq!(world.link(1).take_period(), Some(None));
    assert_eq!(world.vcpu().timers.deadline(), Some(now + MILLISECOND));
    for period in [0, MILLISECOND - 1, 1 << 62, u64::MAX] {
        world.fake.put_words(REQUEST, &[period]);
        assert_eq!(world.vcpu_op(VCPUOP_SET_PERIODIC_TIMER, 0), EINVAL);
    }
}

#[test]
fn records_in_guest_memory() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let area = BASE + 0x100;
    world.link(0).change_run_state(crate::domain::runstate::RunState::Running, 400);
    assert_eq!(world.result(number::VCPU_OP, &[VCPUOP_GET_RUNSTATE_INFO.into(), 0, area]), 0);
    assert_eq!([1, 2, 5].map(|n| world.fake.word(area + 8 * n)), [400, world.fake.now - 400, 400]);
    assert_eq!(world.result(number::VCPU_OP, &[VCPUOP_GET_RUNSTATE_INFO.into(), 0, 8]), EFAULT);
    for (command, at) in
        [(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, area + 0x100), (VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA, area + 0x200)]
    {
        world.fake.put_words(REQUEST, &[at]);
        assert_eq!(world.vcpu_op(command, 0), 0);
        world.fake.put_words(REQUEST, &[1 << 47]);
        assert_eq!(world.vcpu_op(command, 0), EFAULT);
    }
    assert_eq!(world.fake.word(area + 0x108), 400);
    assert_eq!(world.fake.word(area + 0x210), world.fake.now);
    assert_eq!(world.link(0).areas(), [Some(area + 0x100), Some(area + 0x200)]);
}

#[test]
fn an_nmi_waits_for_its_vcpu() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.vcpu_op(VCPUOP_SEND_NMI, 1), EINVAL, "it has no argument");
    for _ in 0..2 {
        assert_eq!(world.result(number::VCPU_OP, &[VCPUOP_SEND_NMI.into(), 1, 0]), 0);
    }
    assert!(world.link(1).take_nmi() && !world.link(1).take_nmi());
    assert_eq!(world.fake.record.kicks.len(), 2);
    let (next, _) = world.call(number::VCPU_OP, &[VCPUOP_SEND_NMI.into(), 9]);
    assert_eq!(next, Next::Resume(Return::RcxR11Free));
}
