//! Making, connecting and closing ports.

use super::super::{Closing, fifo};
use super::*;
use pv_abi::errno::Errno;
use pv_abi::event::*;

fn state(events: &Events, port: u32) -> (u32, u32, u32) {
    let EvtchnStatus { status, detail, remote_port, .. } = events.status(port).unwrap();
    (status, detail, remote_port)
}

#[test]
fn ports_are_given_out_from_1_up() {
    let (events, _) = domain(1, 1, 4096);
    assert_eq!(
        (1..100).map(|_| events.alloc_unbound(DomainId(7)).unwrap()).collect::<Vec<_>>(),
        (1..100).collect::<Vec<_>>()
    );
    events.close(70).unwrap();
    events.close(3).unwrap();
    assert_eq!((events.bind_ipi(V0), events.bind_ipi(V0), events.bind_ipi(V0)), (Ok(3), Ok(70), Ok(100)));
    assert_eq!(state(&events, 0), (EVTCHNSTAT_CLOSED, 0, 0), "number 0 is never used");
    assert_eq!(events.close(0), Err(Errno::EINVAL));
}

#[test]
fn there_is_a_limit() {
    let (events, _) = domain(1, 1, 200);
    assert!((1..200).all(|port| events.bind_ipi(V0) == Ok(port)));
    assert_eq!(events.bind_ipi(V0), Err(Errno::ENOSPC));
    events.close(199).unwrap();
    assert_eq!(events.bind_ipi(V0), Ok(199));
    let (events, _) = domain(1, 1, 100_000);
    assert!((1..4096).all(|port| events.bind_ipi(V0) == Ok(port)));
    assert_eq!(events.bind_ipi(V0), Err(Errno::ENOSPC), "more than 2-level delivery has");
}

#[test]
fn ports_that_there_are_not() {
    let (events, _) = domain(1, 1, 4096);
    assert_eq!(state(&events, 63).0, EVTCHNSTAT_CLOSED);
    for port in [64, 4096, 1 << 17, u32::MAX] {
        assert_eq!(events.status(port).unwrap_err(), Errno::EINVAL);
        assert_eq!(events.close(port), Err(Errno::EINVAL));
        assert!(events.send(port).is_err() && events.unmask(port).is_err());
        assert_eq!(events.is_pending(port), Err(Errno::EINVAL));
        assert_eq!(events.bind_vcpu(port, V0), Err(Errno::EINVAL));
        assert_eq!(events.set_priority(port, 0), Err(Errno::EINVAL));
    }
    assert!(events.unmask(5).is_ok() && events.is_pending(5) == Ok(false), "not in use, but there");
}

#[test]
fn only_who_was_named_may_connect() {
    let ((a, _), (b, _), (c, _)) = (domain(1, 1, 4096), domain(2, 1, 4096), domain(3, 1, 4096));
    let port = a.alloc_unbound(b.domain).unwrap();
    assert_eq!(state(&a, port), (EVTCHNSTAT_UNBOUND, 2, 0));
    assert_eq!(c.bind_interdomain(&a, port).err(), Some(Errno::EINVAL));
    assert_eq!(b.bind_interdomain(&a, port + 1).err(), Some(Errno::EINVAL));
    assert_eq!(state(&c, 1).0, EVTCHNSTAT_CLOSED, "a refusal leaves nothing");
    b.bind_ipi(V0).unwrap();
    let (far, wake) = b.bind_interdomain(&a, port).unwrap();
    assert_eq!(kicked(wake), [(2, 0)], "the new end is pending at once");
    assert_eq!((far, b.is_pending(far), a.is_pending(port)), (2, Ok(true), Ok(false)));
    assert_eq!(state(&a, port), (EVTCHNSTAT_INTERDOMAIN, 2, far));
    assert_eq!(state(&b, far), (EVTCHNSTAT_INTERDOMAIN, 1, port));
    assert_eq!(b.bind_interdomain(&a, port).err(), Some(Errno::EINVAL), "once");
}

#[test]
fn closing_one_end_leaves_the_other_waiting() {
    let ((a, _), (b, _)) = (domain(1, 1, 4096), domain(2, 1, 4096));
    let (near, far) = connect(&a, &b);
    b.close(far).unwrap();
    assert_eq!(state(&a, near), (EVTCHNSTAT_UNBOUND, 2, 0));
    assert_eq!(kicked(a.send(near).unwrap()), [], "goes nowhere");
    assert!(b.close(far).is_err() && b.send(far).is_err());
    let (again, wake) = b.bind_interdomain(&a, near).unwrap();
    assert_eq!((again, kicked(wake).len()), (far, 0), "the upcall is still pending");
    a.close(near).unwrap();
    assert_eq!(state(&b, far), (EVTCHNSTAT_UNBOUND, 1, 0));
}

#[test]
fn a_domain_may_connect_with_itself() {
    let (a, _) = domain(1, 2, 4096);
    let (near, far) = connect(&a, &a);
    assert_ne!(near, far);
    let _ = kicked(a.send(far).unwrap());
    assert_eq!((a.is_pending(near), a.is_pending(far)), (Ok(true), Ok(true)));
    a.close(far).unwrap();
    assert_eq!(state(&a, near), (EVTCHNSTAT_UNBOUND, 1, 0));
}

#[test]
fn a_closed_port_starts_anew() {
    let (a, _) = domain(1, 2, 4096);
    let port = a.bind_ipi(V1).unwrap();
    let _ = kicked(a.send(port).unwrap());
    a.close(port).unwrap();
    assert_eq!(a.is_pending(port), Ok(false));
    assert_eq!(a.alloc_unbound(DomainId(1)), Ok(port));
    assert_eq!((a.is_pending(port), a.status(port).unwrap().vcpu), (Ok(false), 0));
}

#[test]
fn virtual_interrupts_are_bound_once() {
    let (a, _) = domain(1, 2, 4096);
    let port = a.bind_virq(VIRQ_TIMER, V1).unwrap();
    assert_eq!((state(&a, port), a.status(port).unwrap().vcpu), ((EVTCHNSTAT_VIRQ, VIRQ_TIMER, 0), 1));
    assert!(a.is_virq_bound(VIRQ_TIMER, V1) && !a.is_virq_bound(VIRQ_TIMER, V0));
    assert_eq!(a.bind_virq(VIRQ_TIMER, V1), Err(Errno::EEXIST));
    assert_eq!(a.bind_virq(VIRQ_TIMER, VcpuId(2)), Err(Errno::ENOENT));
    assert_eq!(a.bind_virq(NR_VIRQS, V0), Err(Errno::EINVAL));
    assert_eq!(a.bind_virq(VIRQ_DOM_EXC, V1), Err(Errno::EINVAL));
    let global = a.bind_virq(VIRQ_DOM_EXC, V0).unwrap();
    assert_eq!(a.bind_virq(VIRQ_DOM_EXC, V0), Err(Errno::EEXIST));
    a.close(global).unwrap();
    assert!(a.bind_virq(VIRQ_TIMER, V0).is_ok() && a.bind_virq(VIRQ_DEBUG, V1).is_ok());
    a.close(port).unwrap();
    assert!(!a.is_virq_bound(VIRQ_TIMER, V1));
    assert_eq!(kicked(a.raise(VIRQ_TIMER, V1)), []);
    assert_eq!(a.bind_virq(VIRQ_TIMER, V1), Ok(port));
}

#[test]
fn global_virtual_interrupts_are_for_privileged_domains_and_may_move() {
    let (a, _) = domain(0, 2, 4096);
    let port = a.bind_virq(VIRQ_CONSOLE, V0).unwrap();
    a.bind_vcpu(port, V1).unwrap();
    assert_eq!(kicked(a.raise(VIRQ_CONSOLE, V0)), [(0, 1)]);
    a.close(port).unwrap();
    assert_eq!(kicked(a.raise(VIRQ_CONSOLE, V0)), []);
    assert!(a.bind_virq(VIRQ_CONSOLE, V0).is_ok());
}

#[test]
fn ports_that_belong_to_a_vcpu_stay_there() {
    let ((a, _), (b, _)) = (domain(1, 2, 4096), domain(2, 1, 4096));
    let (ipi, timer) = (a.bind_ipi(V0).unwrap(), a.bind_virq(VIRQ_TIMER, V0).unwrap());
    let (near, _) = connect(&a, &b);
    let unbound = a.alloc_unbound(b.domain).unwrap();
    for port in [ipi, timer, unbound + 1] {
        assert_eq!(a.bind_vcpu(port, V1), Err(Errno::EINVAL));
    }
    assert_eq!((a.bind_vcpu(near, V1), a.bind_vcpu(unbound, V1)), (Ok(()), Ok(())));
    assert_eq!(a.bind_vcpu(near, VcpuId(2)), Err(Errno::ENOENT));
    assert_eq!(a.bind_ipi(VcpuId(2)), Err(Errno::ENOENT));
    assert!(a.send(timer).is_err(), "a virtual interrupt isn't sent to");
}

#[test]
fn the_end_of_a_domain_closes_its_ports_in_steps() {
    let ((a, _), (b, _)) = (domain(1, 1, 4096), domain(2, 1, 4096));
    let ports: Vec<_> = (0..100).map(|_| connect(&a, &b)).collect();
    a.bind_virq(VIRQ_TIMER, V0).unwrap();
    let mut steps = 0;
    while !a.close_all(Closing::End, &mut 10) {
        steps += 1;
        assert_eq!(a.bind_ipi(V0), Err(Errno::EINVAL), "no new ones");
    }
    assert!(steps >= 10 && a.take_frame().is_none());
    for (near, far) in ports {
        assert_eq!((state(&a, near).0, state(&b, far)), (EVTCHNSTAT_CLOSED, (EVTCHNSTAT_UNBOUND, 1, 0)));
        assert_eq!(kicked(b.send(far).unwrap()), []);
        assert_eq!(b.bind_interdomain(&a, near).err(), Some(Errno::EINVAL));
    }
    assert_eq!(kicked(a.raise(VIRQ_TIMER, V0)), []);
    assert!(a.close_all(Closing::Reset, &mut 0) && a.take_frame().is_none());
    assert_eq!(a.bind_ipi(V0), Err(Errno::EINVAL), "a reset brings none back");
    assert_eq!(Arc::strong_count(&a), 1, "nobody refers to it any more");
}

#[test]
fn a_reset_makes_all_anew() {
    let (a, pages) = domain(1, 2, 4096);
    let mut guest = guest::Guest::new((a.clone(), pages));
    guest.use_fifo();
    let _ = guest.expand(|_| false);
    let port = a.bind_ipi(V1).unwrap();
    a.set_priority(port, 3).unwrap();
    let _ = kicked(a.send(port).unwrap());
    assert!(!a.close_all(Closing::Reset, &mut 1));
    assert_eq!((a.bind_ipi(V0), a.init_control(V0, Mfn(9), 0)), (Err(Errno::EBUSY), Err(Errno::EBUSY)));
    assert_eq!(a.take_frame(), None, "not before all are closed");
    assert!(a.close_all(Closing::Reset, &mut 1000));
    let mut frames: Vec<_> = std::iter::from_fn(|| a.take_frame()).collect();
    frames.sort();
    assert_eq!(frames, [Mfn(1), Mfn(2), Mfn(64)]);
    assert_eq!(a.expand_array(Mfn(9)).err(), Some(Errno::EOPNOTSUPP));
    guest.forget_fifo();
    assert_eq!(a.bind_ipi(V1), Ok(port));
    let _ = kicked(a.send(port).unwrap());
    assert_eq!(a.shared.is_pending(port), Some(true), "2-level delivery again");
    guest.use_fifo();
    let _ = guest.expand(|_| false);
}

#[test]
fn events_reach_a_guest_that_went_to_fifo_and_back() {
    let (a, pages) = domain(1, 1, 4096);
    let mut guest = guest::Guest::new((a.clone(), pages));
    let port = a.bind_ipi(V0).unwrap();
    assert_eq!(kicked(a.send(port).unwrap()), [(1, 0)]);
    // The upcall of 2-level delivery finds FIFO queues, and leaves the selector as it is.
    guest.use_fifo();
    assert!(guest.upcall(V0, |_| panic!("there is no page of event words yet")));
    assert!(a.close_all(Closing::Reset, &mut 1000));
    while a.take_frame().is_some() {}
    guest.forget_fifo();
    assert_eq!(a.bind_ipi(V0), Ok(port));
    a.shared.evtchn_pending[0].store(0, core::sync::atomic::Ordering::SeqCst);
    assert_eq!(kicked(a.send(port).unwrap()), [(1, 0)]);
}

#[test]
fn no_memory_is_taken_that_others_need() {
    let ((a, pages), (b, _)) = (domain(1, 2, 4096), domain(2, 1, 4096));
    // What comes with a domain is there already.
    pages.spare.store(0, SeqCst);
    for port in 1..64 {
        assert_eq!(a.alloc_unbound(b.domain), Ok(port));
    }
    let waiting = b.alloc_unbound(a.domain).unwrap();
    let refused = |a: &Arc<Events>| {
        assert_eq!(a.alloc_unbound(b.domain), Err(Errno::ENOMEM));
        assert_eq!(a.bind_ipi(V1), Err(Errno::ENOMEM));
        assert_eq!(a.bind_virq(VIRQ_TIMER, V1), Err(Errno::ENOMEM));
        assert_eq!(a.bind_pirq(1), Err(Errno::ENOMEM));
        assert_eq!(a.bind_interdomain(&b, waiting).err(), Some(Errno::ENOMEM));
    };
    refused(&a);
    assert_eq!(
        (a.init_control(V0, Mfn(1), 0), a.expand_array(Mfn(2)).err()),
        (Err(Errno::ENOMEM), Some(Errno::EOPNOTSUPP))
    );
    // One that is closed can be had again.
    assert_eq!((a.close(7), a.bind_ipi(V1)), (Ok(()), Ok(7)));
    // 128 ports of 32 bytes, and two bits for each.
    pages.spare.store(128 * 32 + 31, SeqCst);
    refused(&a);
    assert_eq!(a.init_control(V0, Mfn(1), 0), Ok(()));
    pages.spare.store(128 * 32 + 32, SeqCst);
    assert_eq!(a.bind_ipi(V1), Ok(64));
    pages.spare.store(0, SeqCst);
    for port in 65..192 {
        assert_eq!(a.alloc_unbound(b.domain), Ok(port));
    }
    refused(&a);
    assert_eq!(a.init_control(V1, Mfn(1), 128), Ok(()), "the state is there");
}

#[test]
fn ports_that_stay_in_queues_are_held_and_come_back() {
    const PORTS: u32 = 3000;
    let (a, pages) = domain(1, 1, PORTS);
    let mut guest = guest::Guest::new((a.clone(), pages));
    guest.use_fifo();
    for _ in 0..PORTS.div_ceil(fifo::WORDS as u32) {
        let _ = guest.expand(|_| false);
    }
    let link = |ports: core::ops::Range<u32>, linked: bool| {
        let word = if linked { fifo::link::LINKED } else { 0 };
        ports.for_each(|port| guest.word(port).unwrap().store(word, SeqCst));
    };
    for port in 1..PORTS {
        assert_eq!(a.bind_ipi(V0), Ok(port));
    }
    assert_eq!(a.bind_ipi(V0), Err(Errno::ENOSPC));
    // In a queue when they are closed, or said to be so afterwards.
    link(1..1000, true);
    (1..2000).for_each(|port| a.close(port).unwrap());
    link(1000..2000, true);
    assert_eq!(a.bind_ipi(V0), Err(Errno::ENOSPC));
    link(1999..2000, false);
    // Few are looked at each time, and all of them in the end.
    let calls = (0..1000).position(|_| a.bind_ipi(V0).is_ok()).expect("a port that can be had is found");
    assert!(calls <= 2000 / 16, "{calls}");
    assert!(a.status(1999).unwrap().status != EVTCHNSTAT_CLOSED);
    link(1..1999, false);
    let mut got: Vec<_> = (1..1999).map(|_| a.bind_ipi(V0).unwrap()).collect();
    assert_eq!(a.bind_ipi(V0), Err(Errno::ENOSPC));
    got.sort();
    assert_eq!(got, (1..1999).collect::<Vec<_>>());
    // A reset frees those that are held.
    link(1..PORTS, true);
    while !a.close_all(Closing::Reset, &mut 1000) {}
    while a.take_frame().is_some() {}
    for port in 1..PORTS {
        assert_eq!(a.bind_ipi(V0), Ok(port));
    }
}
