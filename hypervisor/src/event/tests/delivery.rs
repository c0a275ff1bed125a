//! What becomes pending, who is told, and who isn't.

use core::sync::atomic::Ordering::SeqCst;
use std::vec;

use super::guest::Guest;
use super::*;
use crate::event::Closing;
use crate::event::fifo::link::{LINKED, MASKED, PENDING};
use pv_abi::errno::Errno;
use pv_abi::event::*;

/// What an upcall on a vCPU brings.
fn taken(guest: &mut Guest, vcpu: VcpuId) -> Vec<u32> {
    let mut ports = vec![];
    guest.upcall(vcpu, |port| ports.push(port));
    ports
}

fn fifo_guest(vcpus: u32) -> Guest {
    let mut guest = Guest::new(domain(1, vcpus, 5000));
    guest.use_fifo();
    assert_eq!(kicked(guest.expand(|_| false)), []);
    guest
}

#[test]
fn an_event_goes_to_the_vcpu_that_was_chosen() {
    let ((a, _), mut guest) = (domain(1, 1, 4096), Guest::new(domain(2, 2, 4096)));
    let b = guest.events.clone();
    let (near, far) = connect(&a, &b);
    assert_eq!(taken(&mut guest, V0), [far], "for being connected");
    b.bind_vcpu(far, V1).unwrap();
    assert_eq!(kicked(a.send(near).unwrap()), [(2, 1)]);
    assert_eq!(kicked(a.send(near).unwrap()), [], "it is pending already");
    assert_eq!((taken(&mut guest, V0), taken(&mut guest, V1)), (vec![], vec![far]));
    assert_eq!(kicked(a.send(near).unwrap()), [(2, 1)]);
}

#[test]
fn a_second_port_kicks_nobody_while_an_upcall_is_pending() {
    for mut guest in [Guest::new(domain(1, 1, 4096)), fifo_guest(1)] {
        let events = guest.events.clone();
        let ports: Vec<_> = (0..70).map(|_| events.bind_ipi(V0).unwrap()).collect();
        assert_eq!(kicked(events.send(ports[0]).unwrap()), [(1, 0)]);
        for &port in &ports[1..] {
            assert_eq!(kicked(events.send(port).unwrap()), []);
        }
        assert_eq!(taken(&mut guest, V0), ports);
    }
}

#[test]
fn a_masked_port_waits_until_it_is_unmasked() {
    for mut guest in [Guest::new(domain(1, 2, 4096)), fifo_guest(2)] {
        let events = guest.events.clone();
        let port = events.bind_ipi(V1).unwrap();
        guest.mask(port);
        assert_eq!(kicked(events.send(port).unwrap()), []);
        assert_eq!((events.is_pending(port), taken(&mut guest, V1)), (Ok(true), vec![]));
        assert_eq!(kicked(events.unmask(port).unwrap()), [(1, 1)]);
        assert_eq!(kicked(events.unmask(port).unwrap()), []);
        assert_eq!(taken(&mut guest, V1), [port]);
    }
}

#[test]
fn pollers_are_told_of_masked_ports_too() {
    for guest in [Guest::new(domain(1, 3, 4096)), fifo_guest(3)] {
        let events = guest.events.clone();
        let port = events.bind_ipi(V0).unwrap();
        guest.mask(port);
        events.begin_poll(V1, None);
        assert!(events.vcpu(V1).unwrap().fall_asleep());
        assert_eq!(kicked(events.send(port).unwrap()), [(1, 1)]);
        assert!(events.vcpu(V1).unwrap().has_reason_to_wake());
        assert_eq!(kicked(events.send(port).unwrap()), [], "it is pending already, and the poller knew");
        events.end_poll(V1);
        guest.clear(port);
        assert_eq!(kicked(events.send(port).unwrap()), []);
        assert!(!events.vcpu(V1).unwrap().has_reason_to_wake());
    }
}

#[test]
fn the_timer_interrupts_its_vcpu() {
    for mut guest in [Guest::new(domain(1, 2, 4096)), fifo_guest(2)] {
        let events = guest.events.clone();
        let ports = [V0, V1].map(|vcpu| events.bind_virq(VIRQ_TIMER, vcpu).unwrap());
        assert_eq!(kicked(events.raise(VIRQ_TIMER, V1)), [(1, 1)]);
        assert_eq!((taken(&mut guest, V0), taken(&mut guest, V1)), (vec![], vec![ports[1]]));
        assert_eq!(kicked(events.raise(VIRQ_DEBUG, V1)), []);
        assert_eq!(kicked(events.raise(VIRQ_TIMER, VcpuId(2))), []);
    }
}

#[test]
fn what_was_pending_is_carried_over_to_fifo_delivery() {
    let mut guest = Guest::new(domain(1, 1, 4096));
    let events = guest.events.clone();
    let ports: Vec<_> = (0..3).map(|_| events.bind_ipi(V0).unwrap()).collect();
    guest.mask(ports[1]);
    ports[..2].iter().for_each(|&port| drop(kicked(events.send(port).unwrap())));
    // Of a port that isn't bound, this is left to the guest.
    events.shared.evtchn_pending[1].store(1, SeqCst);
    events.vcpu(V0).unwrap().info().take_upcall();
    guest.use_fifo();
    assert_eq!(ports.iter().map(|&port| events.is_pending(port).unwrap()).collect::<Vec<_>>(), [true, true, false]);
    // This one finds no page yet.
    assert_eq!(kicked(events.send(ports[2]).unwrap()), []);
    assert_eq!(kicked(guest.expand(|port| port == ports[1])), [(1, 0)]);
    assert_eq!(taken(&mut guest, V0), [ports[0], ports[2]]);
    assert_eq!(kicked(guest.unmask(ports[1]).unwrap()), [(1, 0)]);
    assert_eq!(taken(&mut guest, V0), [ports[1]]);
}

#[test]
fn a_port_that_waits_for_a_page_and_is_closed_brings_nothing() {
    let mut guest = Guest::new(domain(1, 1, 4096));
    let events = guest.events.clone();
    guest.use_fifo();
    let port = events.bind_ipi(V0).unwrap();
    let _ = kicked(events.send(port).unwrap());
    events.close(port).unwrap();
    assert_eq!(events.bind_ipi(V0), Ok(port));
    assert_eq!((kicked(guest.expand(|_| false)), events.is_pending(port)), (vec![], Ok(false)));
}

#[test]
fn urgent_queues_come_first() {
    let mut guest = fifo_guest(1);
    let events = guest.events.clone();
    let ports: Vec<_> = (0..6).map(|_| events.bind_ipi(V0).unwrap()).collect();
    for (&port, priority) in ports.iter().zip([15, 7, 0, 7, 0, 3]) {
        events.set_priority(port, priority).unwrap();
        let _ = kicked(events.send(port).unwrap());
    }
    assert_eq!(taken(&mut guest, V0), [2, 4, 5, 1, 3, 0].map(|index: usize| ports[index]));
    assert_eq!(events.set_priority(ports[0], 16), Err(Errno::EINVAL));
    assert_eq!(events.set_priority(60, 0), Err(Errno::EACCES));
}

#[test]
fn an_event_that_is_in_a_queue_stays_there_when_its_port_moves() {
    let (mut guest, (a, _)) = (fifo_guest(2), domain(2, 1, 4096));
    let events = guest.events.clone();
    let (near, far) = connect(&a, &events);
    events.bind_vcpu(far, V1).unwrap();
    assert_eq!(taken(&mut guest, V0), [far]);
    // It was the last of the old queue, to which another is appended now.
    let other = events.bind_ipi(V0).unwrap();
    assert_eq!(kicked(a.send(near).unwrap()), [(1, 1)]);
    assert_eq!(kicked(events.send(other).unwrap()), [(1, 0)]);
    assert_eq!((taken(&mut guest, V0), taken(&mut guest, V1)), (vec![other], vec![far]));
}

#[test]
fn a_closed_port_is_not_used_again_while_it_is_in_a_queue() {
    let mut guest = fifo_guest(1);
    let events = guest.events.clone();
    let port = events.bind_ipi(V0).unwrap();
    let _ = kicked(events.send(port).unwrap());
    events.close(port).unwrap();
    assert_eq!(guest.word(port).unwrap().load(SeqCst) & (PENDING | LINKED), LINKED);
    assert_eq!(events.bind_ipi(V0), Ok(port + 1));
    assert_eq!(taken(&mut guest, V0), [], "it is taken from the queue, and brings nothing");
    assert_eq!(events.bind_ipi(V0), Ok(port));
}

#[test]
fn more_ports_with_fifo_delivery() {
    let mut guest = fifo_guest(1);
    let events = guest.events.clone();
    (0..4).for_each(|_| drop(kicked(guest.expand(|_| false))));
    let ports: Vec<_> = (1..5000).map(|_| events.bind_ipi(V0).unwrap()).collect();
    assert_eq!(events.bind_ipi(V0), Err(Errno::ENOSPC));
    ports.iter().for_each(|&port| drop(kicked(events.send(port).unwrap())));
    assert_eq!(taken(&mut guest, V0), ports);
}

#[test]
fn control_blocks_and_pages_are_checked() {
    let (events, _) = domain(1, 2, 4096);
    assert_eq!(events.expand_array(Mfn(5)).err(), Some(Errno::EOPNOTSUPP));
    assert_eq!(events.init_control(VcpuId(2), Mfn(5), 0), Err(Errno::ENOENT));
    for offset in [4, 4096 - 64, 4096, !7] {
        assert_eq!(events.init_control(V0, Mfn(5), offset), Err(Errno::EINVAL));
    }
    assert_eq!(events.set_priority(1, 0), Err(Errno::ENOSYS), "nothing of that has switched it");
    events.init_control(V0, Mfn(5), 4096 - 72).unwrap();
    assert_eq!(events.init_control(V0, Mfn(6), 0), Err(Errno::EINVAL), "once");
    (0..128).for_each(|page| drop(kicked(events.expand_array(Mfn(100 + page)).unwrap())));
    assert_eq!(events.expand_array(Mfn(300)).err(), Some(Errno::ENOSPC));
    // vCPU 1 has no control block: its guest must not unmask ports yet.
    let port = events.bind_ipi(V1).unwrap();
    assert_eq!((kicked(events.send(port).unwrap()), events.is_pending(port)), (vec![], Ok(true)));
    assert!(events.close_all(Closing::End, &mut u32::MAX.clone()));
    assert_eq!(std::iter::from_fn(|| events.take_frame()).count(), 129);
}

#[test]
fn a_guest_that_breaks_its_queue_loses_its_own_events_only() {
    let mut guest = fifo_guest(2);
    let events = guest.events.clone();
    let ports: Vec<_> = (0..4).map(|_| events.bind_ipi(V0).unwrap()).collect();
    let mut random = crate::mm::tests::Random::new(1);
    for _ in 0..10_000 {
        let port = ports[random.next(4) as usize];
        guest.word(port).unwrap().store(random.next(1 << 32) as u32, SeqCst);
        let _ = kicked(events.send(port).unwrap());
        let _ = kicked(events.unmask(port).unwrap());
        assert_ne!(guest.word(port).unwrap().load(SeqCst) & PENDING, 0);
        assert_eq!(guest.word(port).unwrap().load(SeqCst) & MASKED, 0);
    }
    // A word that was never touched is as it was; a vCPU that had no events wasn't told of any.
    assert_eq!(guest.word(900).unwrap().load(SeqCst), 0);
    assert_eq!(taken(&mut guest, V1), []);
}
