//! `event_channel_op`: arguments, codes, and the frames of FIFO delivery. What the rules do is tested beside them.

use super::fake::{Failing, MAX_PORTS};
use super::world::*;
use super::*;
use crate::addr::{DomainId, VcpuId};
use pv_abi::domid::{DOMID_SELF, DOMID_XEN};
use pv_abi::event::*;
use pv_abi::mmu::MMUEXT_PIN_L1_TABLE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const EEXIST: i64 = Errno::EEXIST.code();
const ENOSPC: i64 = Errno::ENOSPC.code();
const EOPNOTSUPP: i64 = Errno::EOPNOTSUPP.code();

impl World<'_> {
    /// Makes the call; its result, and what the struct holds then.
    fn event<T: IntoBytes + FromBytes + Immutable>(&mut self, command: u32, mut request: T) -> (i64, T) {
        self.fake.put(BASE, request.as_bytes());
        let result = self.result(number::EVENT_CHANNEL_OP, &[command.into(), BASE]);
        request.as_mut_bytes().copy_from_slice(&self.fake.memory[..size_of::<T>()]);
        (result, request)
    }

    fn port(&mut self, command: u32, port: u32) -> i64 {
        self.event(command, EvtchnPort { port }).0
    }

    fn alloc_unbound(&mut self, dom: u16, remote_dom: u16) -> (i64, u32) {
        let (result, request) = self.event(EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound { dom, remote_dom, port: 77 });
        (result, request.port)
    }

    fn status(&mut self, dom: u16, port: u32) -> (i64, EvtchnStatus) {
        self.event(EVTCHNOP_STATUS, EvtchnStatus { dom, port, ..Default::default() })
    }

    fn init_control(&mut self, pfn: u64, vcpu: u32, offset: u32) -> (i64, u8) {
        let control_gfn = self.mfn(pfn).0;
        let request = EvtchnInitControl { control_gfn, offset, vcpu, ..Default::default() };
        let (result, request) = self.event(EVTCHNOP_INIT_CONTROL, request);
        (result, request.link_bits)
    }

    fn expand_array(&mut self, pfn: u64) -> i64 {
        let array_gfn = self.mfn(pfn).0;
        self.event(EVTCHNOP_EXPAND_ARRAY, EvtchnExpandArray { array_gfn }).0
    }
}

#[test]
fn two_domains_connect_and_send() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let (result, port) = world.alloc_unbound(DOMID_SELF, 0);
    assert_eq!((result, port), (0, 1));
    world.run(0);
    let bind = EvtchnBindInterdomain { remote_dom: 1, remote_port: 1, ..Default::default() };
    let (result, bound) = world.event(EVTCHNOP_BIND_INTERDOMAIN, bind);
    assert_eq!((result, bound.local_port), (0, 1));
    assert_eq!(world.fake.record.kicks, [(DomainId(0), VcpuId(0))], "pending at once");
    assert_eq!(world.port(EVTCHNOP_SEND, 1), 0);
    assert_eq!(world.fake.record.kicks[1..], [(DomainId(1), VcpuId(0))]);
    world.run(FIRST);
    let (result, status) = world.status(DOMID_SELF, 1);
    let expected = EvtchnStatus {
        dom: DOMID_SELF,
        port: 1,
        status: EVTCHNSTAT_INTERDOMAIN,
        detail: 0,
        remote_port: 1,
        ..Default::default()
    };
    assert_eq!((result, status), (0, expected));
    assert_eq!((world.port(EVTCHNOP_CLOSE, 1), world.port(EVTCHNOP_CLOSE, 1)), (0, EINVAL));
}

#[test]
fn commands_and_addresses_that_are_none() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for command in [14, 77, u32::MAX] {
        assert_eq!(world.result(number::EVENT_CHANNEL_OP, &[command.into(), BASE]), ENOSYS);
    }
    for command in 0..14 {
        assert_eq!(world.result(number::EVENT_CHANNEL_OP, &[command, 8]), EFAULT, "command {command}");
    }
    for command in [EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_UNMASK] {
        assert_eq!(world.port(command, 1 << 17), EINVAL);
    }
    assert_eq!((world.port(EVTCHNOP_SEND, 1), world.port(EVTCHNOP_UNMASK, 1)), (EINVAL, 0));
}

#[test]
fn the_first_form_of_the_call() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let call = |world: &mut World<'_>, words: [u32; 3]| {
        world.fake.put(BASE, words.as_bytes());
        world.result(number::EVENT_CHANNEL_OP_COMPAT, &[BASE])
    };
    assert_eq!(call(world, [EVTCHNOP_BIND_IPI, 1, 0]), 0);
    assert_eq!(world.fake.word(BASE + 4), 1 | 1 << 32, "the port behind the vCPU");
    assert_eq!(call(world, [EVTCHNOP_SEND, 1, 0]), 0);
    assert_eq!(world.fake.record.kicks, [(DomainId(1), VcpuId(1))]);
    assert_eq!(call(world, [EVTCHNOP_RESET, 0, 0]), ENOSYS, "what came later isn't there");
    assert_eq!(world.result(number::EVENT_CHANNEL_OP_COMPAT, &[8]), EFAULT);
}

#[test]
fn virtual_and_physical_interrupts() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let virq = |world: &mut World<'_>, virq, vcpu| {
        let (result, bound) = world.event(EVTCHNOP_BIND_VIRQ, EvtchnBindVirq { virq, vcpu, port: 0 });
        (result, bound.port)
    };
    assert_eq!(virq(world, VIRQ_TIMER, 1), (0, 1));
    assert_eq!(virq(world, VIRQ_TIMER, 1), (EEXIST, 0));
    assert_eq!(virq(world, VIRQ_TIMER, 3), (ENOENT, 0));
    assert_eq!(virq(world, NR_VIRQS, 0), (EINVAL, 0));
    assert_eq!(virq(world, VIRQ_DOM_EXC, 1), (EINVAL, 0));
    assert_eq!(world.event(EVTCHNOP_BIND_VCPU, EvtchnBindVcpu { port: 1, vcpu: 0 }).0, EINVAL);
    assert_eq!(world.event(EVTCHNOP_BIND_PIRQ, EvtchnBindPirq { pirq: 4, flags: 0, port: 0 }).0, EPERM);
    let (result, ipi) = world.event(EVTCHNOP_BIND_IPI, EvtchnBindIpi { vcpu: 1, port: 0 });
    assert_eq!((result, ipi.port), (0, 2));
    assert_eq!(world.port(EVTCHNOP_SEND, 2), 0);
    assert_eq!(world.fake.record.kicks, [(DomainId(1), VcpuId(1))]);
    assert_eq!(world.event(EVTCHNOP_BIND_IPI, EvtchnBindIpi { vcpu: 3, port: 0 }).0, ENOENT);
    assert_eq!(virq(world, VIRQ_DOM_EXC, 0), (0, 3));
}

#[test]
fn only_the_privileged_name_others() {
    let machine = machine();
    let world = &mut World::new(&machine);
    assert_eq!(world.alloc_unbound(1, 0), (0, 1), "that is itself");
    assert_eq!(world.alloc_unbound(0, 1), (EPERM, 77));
    assert_eq!((world.alloc_unbound(5, 1).0, world.alloc_unbound(DOMID_XEN, 1).0), (ESRCH, ESRCH));
    assert_eq!((world.status(0, 1).0, world.status(5, 1).0), (EPERM, ESRCH));
    assert_eq!(world.event(EVTCHNOP_RESET, EvtchnReset { dom: 0 }).0, EPERM);
    let bind = EvtchnBindInterdomain { remote_dom: 5, remote_port: 1, ..Default::default() };
    assert_eq!(world.event(EVTCHNOP_BIND_INTERDOMAIN, bind).0, ESRCH);
    world.run(0);
    assert_eq!(world.alloc_unbound(1, DOMID_SELF), (0, 2));
    let (result, status) = world.status(1, 2);
    assert_eq!((result, status.status, status.detail), (0, EVTCHNSTAT_UNBOUND, 0), "the caller may connect");
    assert_eq!(world.event(EVTCHNOP_RESET, EvtchnReset { dom: 1 }).0, EINVAL, "it isn't stopped");
}

#[test]
fn a_port_that_nobody_was_told_of_is_closed_again() {
    let machine = machine();
    let world = &mut World::new(&machine);
    world.fake.copies = Failing::once_after(1);
    assert_eq!(world.alloc_unbound(DOMID_SELF, 0).0, EFAULT);
    assert_eq!(world.status(DOMID_SELF, 1).1.status, EVTCHNSTAT_CLOSED);
}

#[test]
fn ports_have_a_limit() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for port in 1..MAX_PORTS {
        assert_eq!(world.alloc_unbound(DOMID_SELF, 0), (0, port));
    }
    assert_eq!(world.alloc_unbound(DOMID_SELF, 0), (ENOSPC, 77));
    assert_eq!(world.event(EVTCHNOP_RESET, EvtchnReset { dom: DOMID_SELF }).0, 0);
    assert_eq!(world.alloc_unbound(DOMID_SELF, 0), (0, 1));
}

#[test]
fn fifo_pages_are_held_until_a_reset() {
    let machine = machine();
    let world = &mut World::new(&machine);
    let references = |world: &World<'_>, pfn| world.state(DATA + pfn).references();
    assert_eq!(world.expand_array(DATA + 8), EOPNOTSUPP);
    assert_eq!(references(world, 8), 1, "not taken for that");
    assert_eq!(world.init_control(DATA + 8, 0, 4096 - 72), (0, 17));
    assert_eq!(world.init_control(DATA + 9, 0, 0), (EINVAL, 0), "vCPU 0 has one");
    assert_eq!((references(world, 8), references(world, 9)), (2, 1));
    assert_eq!(world.init_control(DATA + 8, 1, 0), (0, 17), "they may share a page");
    assert_eq!(world.expand_array(DATA + 9), 0);
    // What is held is no table, and no table is taken.
    assert_eq!(world.operate(MMUEXT_PIN_L1_TABLE, world.mfn(DATA + 9).0, 0), EINVAL);
    assert_eq!(world.expand_array(L1), EINVAL);
    let free = Mfn(world.fake.machine.frames.len() as u64 - 1);
    for bad in [world.fake.domains[0].first[0], free, Mfn(u64::MAX), Mfn(1 << 40)] {
        let request = EvtchnExpandArray { array_gfn: bad.0 };
        assert_eq!(world.event(EVTCHNOP_EXPAND_ARRAY, request).0, EINVAL);
    }
    assert_eq!(world.event(EVTCHNOP_SET_PRIORITY, EvtchnSetPriority { port: 1, priority: 0 }).0, Errno::EACCES.code());
    assert_eq!(world.alloc_unbound(DOMID_SELF, 0), (0, 1));
    assert_eq!(world.event(EVTCHNOP_SET_PRIORITY, EvtchnSetPriority { port: 1, priority: 0 }).0, 0);
    world.fake.put(BASE, EvtchnReset { dom: DOMID_SELF }.as_bytes());
    let (next, result) = world.call_within(number::EVENT_CHANNEL_OP, &[EVTCHNOP_RESET.into(), BASE], || 7);
    assert_eq!((next, result), (Next::Resume(Return::RcxR11Free), 0));
    assert_eq!((references(world, 8), references(world, 9)), (1, 1));
    assert_eq!(world.init_control(DATA + 8, 0, 0), (0, 17));
}

#[test]
fn pages_of_an_ended_domain_come_back() {
    let machine = machine();
    let mut world = World::new(&machine);
    assert_eq!(world.init_control(DATA + 8, 0, 0), (0, 17));
    assert_eq!(world.expand_array(DATA + 9), 0);
    world.end();
}
