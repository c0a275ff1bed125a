//! `sched_op`.

use super::*;
use crate::addr::{DomainId, VcpuId};
use crate::domain::ShutdownReason;
use core::sync::atomic::Ordering;
use pv_abi::event::EVTCHNOP_SEND;

#[test]
fn shutdown_reasons() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for (code, reason) in [(0, ShutdownReason::Poweroff), (1, ShutdownReason::Reboot), (3, ShutdownReason::Crash)] {
        world.fake.put_words(BASE, &[code]);
        let (next, _) = world.call(number::SCHED_OP, &[2, BASE]);
        assert_eq!(next, Next::End(End::Shutdown(reason)));
    }
    world.fake.put_words(BASE, &[6]);
    assert_eq!(world.result(number::SCHED_OP, &[2, BASE]), EINVAL);
    assert_eq!(world.result(number::SCHED_OP, &[2, 0]), EFAULT);
}

#[test]
fn polls_that_need_not_wait_do_not() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let poll = |world: &mut World<'_>, ports: u64, count: u64, timeout: u64| {
        world.fake.put_words(BASE, &[ports, count, timeout]);
        world.call(number::SCHED_OP, &[3, BASE])
    };
    assert_eq!(poll(world, 0, 0, 999), (Next::Resume(Return::RcxR11Free), 0), "the time has come");
    assert_eq!(poll(world, 0, 0, 1001), (Next::Poll { until: Some(1001) }, 0));
    assert_eq!(poll(world, 0, 0, 0), (Next::Poll { until: None }, 0));
    assert_eq!(poll(world, 0, 129, 0).1, EINVAL);
    assert_eq!(poll(world, u64::MAX - 3, 2, 0).1, EFAULT);
    world.fake.put_words(BASE + 64, &[4096]);
    assert_eq!(poll(world, BASE + 64, 1, 0).1, EINVAL);
}

#[test]
fn blocking_unmasks() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.vcpu().info.set_upcall_mask(true);
    assert_eq!(world.call(number::SCHED_OP, &[1, 0]).0, Next::Block);
    assert_eq!(world.vcpu().info.upcall_mask(), 0);
}

#[test]
fn a_poll_looks_at_its_ports_and_waits() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let events = world.fake.domains[1].events.clone();
    let (vcpu, port) = (events.vcpu(VcpuId(0)).unwrap(), events.bind_ipi(VcpuId(0)).unwrap());
    let poll = |world: &mut World<'_>, port: u32| {
        world.fake.put_words(BASE, &[BASE + 64, 1, 0]);
        world.fake.put_words(BASE + 64, &[port.into()]);
        world.call(number::SCHED_OP, &[3, BASE])
    };
    assert_eq!(poll(world, port), (Next::Poll { until: None }, 0));
    assert!(vcpu.is_polling());
    events.shared.evtchn_mask[0].store(u64::MAX, Ordering::SeqCst);
    assert_eq!(world.result(number::EVENT_CHANNEL_OP, &[EVTCHNOP_SEND.into(), BASE + 64]), 0);
    assert!(vcpu.has_reason_to_wake());
    assert_eq!(world.fake.record.kicks, [(DomainId(1), VcpuId(0))]);
    assert_eq!(poll(world, port), (Next::Resume(Return::RcxR11Free), 0), "masked, but pending");
    assert!(!vcpu.is_polling());
    assert_eq!(poll(world, 1 << 17).1, EINVAL);
    assert!(!vcpu.is_polling() && !vcpu.has_reason_to_wake());
}
