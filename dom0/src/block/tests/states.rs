//! The frontend's states, in order and out of it.

use super::world::*;
use pv_abi::io::block::*;
use std::format;

fn setup() -> Setup {
    let mut setup = Setup::new(8);
    setup.add(1, 0..64, false);
    setup
}

#[test]
fn what_a_frontend_reads_before_and_after_it_connects() {
    let mut setup = setup();
    let back = Setup::back(1);
    let node = |setup: &mut Setup, name: &str| setup.store.get(&format!("{back}/{name}")).parse().ok();
    let before = ["state", "max-ring-page-order", "multi-queue-max-queues", "sectors"];
    assert_eq!(before.map(|name| node(&mut setup, name)), [Some(2), Some(3), Some(4), None]);
    setup.connect(1);
    let after = [
        ("state", 4),
        ("sectors", 64),
        ("sector-size", 512),
        ("physical-sector-size", 4096),
        ("info", 0),
        ("feature-barrier", 0),
        ("feature-flush-cache", 1),
        ("feature-persistent", 0),
        ("feature-discard", 1),
        ("discard-granularity", 512),
        ("feature-max-indirect-segments", 30),
    ];
    for (name, value) in after {
        assert_eq!(node(&mut setup, name), Some(value), "{name}");
    }
}

#[test]
fn a_frontend_closes_and_comes_back() {
    let mut setup = setup();
    for _ in 0..3 {
        let mut ring = setup.connect(1);
        setup.world.grant_page(1, 10, true);
        assert_eq!(setup.ask(1, &mut ring, transfer(BLKIF_OP_READ, 0, &[(10, 0, 7)])), BLKIF_RSP_OKAY);
        setup.set_state(1, 5);
        assert_eq!((setup.state(1), setup.world.0.borrow().rings_mapped), (5, 0));
        setup.set_state(1, 6);
        assert_eq!(setup.state(1), 6);
        setup.set_state(1, 1);
        assert_eq!(setup.state(1), 2);
    }
}

#[test]
fn a_frontend_that_starts_anew_without_a_word_finds_the_back_end_ready() {
    let mut setup = setup();
    setup.connect(1);
    setup.set_state(1, 1);
    assert_eq!((setup.state(1), setup.world.0.borrow().rings_mapped), (2, 0));
    setup.connect(1);
}

#[test]
fn requests_in_flight_are_waited_for() {
    let mut setup = setup();
    let mut ring = setup.connect(1);
    setup.world.grant_page(1, 10, true);
    setup.disk.platter.borrow_mut().allowed = 0;
    // As many as the disk takes, and two that wait.
    (0..10).for_each(|n| assert!(ring.push(&transfer(BLKIF_OP_READ, n, &[(10, 0, 0)])).is_some()));
    setup.run(1, &mut ring);
    assert_eq!(setup.world.held(), 10);
    // The domain ends: its nodes are gone.
    setup.store.remove("/local/domain/1");
    setup.look(1);
    setup.settle();
    assert_eq!((setup.state(1), setup.world.held(), setup.world.0.borrow().rings_mapped), (5, 8, 1));
    setup.disk.platter.borrow_mut().allowed = 7;
    setup.settle();
    assert_eq!((setup.state(1), setup.world.held()), (5, 1));
    setup.disk.platter.borrow_mut().allowed = 1;
    setup.turn();
    assert_eq!((setup.state(1), setup.world.held(), setup.world.0.borrow().rings_mapped), (6, 0, 0));
}

#[test]
fn a_virtual_disk_that_is_removed_goes_when_the_disk_is_done() {
    let mut setup = setup();
    let mut ring = setup.connect(1);
    setup.world.grant_page(1, 10, true);
    setup.disk.platter.borrow_mut().allowed = 0;
    assert!(ring.push(&transfer(BLKIF_OP_READ, 0, &[(10, 0, 0)])).is_some());
    setup.run(1, &mut ring);
    setup.store.remove("/local");
    setup.hub.remove(&Setup::back(1)).unwrap();
    setup.turn();
    assert!(!setup.hub.has(&Setup::back(1)) && setup.world.held() == 1);
    // The next one with the same name doesn't disturb it.
    setup.add(1, 0..64, false);
    setup.connect(1);
    setup.disk.platter.borrow_mut().allowed = 1;
    setup.turn();
    assert_eq!((setup.state(1), setup.world.held(), setup.world.0.borrow().rings_mapped), (4, 0, 1));
}

#[test]
fn what_was_removed_from_the_store_stays_removed() {
    let mut setup = setup();
    setup.connect(1);
    setup.store.remove("/local");
    setup.look(1);
    setup.settle();
    assert!(setup.store.get(&(Setup::back(1) + "/state")).is_empty() && setup.world.0.borrow().rings_mapped == 0);
}

#[test]
fn nodes_that_make_no_sense_close_the_device_and_a_second_try_works() {
    let lies = [
        ("ring-ref", "x", "ring-ref is missing"),
        ("ring-ref", "5", "can't be mapped"),
        ("ring-ref", "99999999999", "ring-ref is missing"),
        ("event-channel", "0", "can't be connected"),
        ("event-channel", "-1", "event-channel is missing"),
        ("protocol", "x86_32-abi", "protocol"),
        ("ring-page-order", "4", "ring-page-order"),
        ("ring-page-order", "1", "ring-ref0 is missing"),
        ("multi-queue-num-queues", "5", "multi-queue-num-queues"),
        ("multi-queue-num-queues", "0", "multi-queue-num-queues"),
        ("multi-queue-num-queues", "2", "queue-0/ring-ref is missing"),
    ];
    for (name, value, fault) in lies {
        let mut setup = setup();
        let front = Setup::front(1);
        setup.world.grant_ring(1, RING, 1);
        setup.store.set(&format!("{front}/ring-ref"), RING);
        setup.store.set(&format!("{front}/event-channel"), 9);
        setup.store.set(&format!("{front}/{name}"), value);
        setup.set_state(1, 3);
        assert_eq!((setup.state(1), setup.world.0.borrow().rings_mapped), (5, 0), "{name} = {value}");
        assert!(setup.faults[0].contains(fault), "{:?}", setup.faults);
        setup.store.remove(&format!("{front}/{name}"));
        setup.set_state(1, 6);
        setup.set_state(1, 1);
        setup.connect(1);
    }
}

#[test]
fn a_ring_that_is_broken_closes_the_device() {
    let mut setup = setup();
    let ring = setup.connect(1);
    scribble(ring.memory(), 0, 33);
    setup.world.0.borrow_mut().rung.insert((1, 9));
    setup.settle();
    assert_eq!((setup.state(1), setup.world.0.borrow().rings_mapped), (5, 0));
    assert_eq!(setup.faults, ["an impossible index in the ring"]);
}

#[test]
fn several_queues_of_several_pages() {
    let mut setup = setup();
    let front = Setup::front(1);
    let mut rings = std::vec::Vec::new();
    setup.store.set(&format!("{front}/multi-queue-num-queues"), 3);
    setup.store.set(&format!("{front}/ring-page-order"), 1);
    for queue in 0..3 {
        let first = RING + 10 * queue;
        rings.push(FrontRing::new(setup.world.grant_ring(1, first, 2)).unwrap());
        let place = format!("{front}/queue-{queue}");
        setup.store.set(&format!("{place}/ring-ref0"), first);
        setup.store.set(&format!("{place}/ring-ref1"), first + 1);
        setup.store.set(&format!("{place}/event-channel"), 20 + queue);
    }
    setup.set_state(1, 3);
    assert_eq!(setup.state(1), 4);
    setup.world.grant_page(1, 10, true);
    for (queue, ring) in rings.iter_mut().enumerate() {
        while ring.push(&transfer(BLKIF_OP_READ, queue as u64, &[(10, 0, 0)])).is_some() {}
        assert!(ring.publish());
        setup.world.0.borrow_mut().rung.insert((1, 20 + queue as u32));
    }
    setup.settle();
    for mut ring in rings {
        let answers = core::iter::from_fn(|| ring.take().unwrap()).filter(|answer| answer.status == 0);
        assert_eq!(answers.count(), 64);
    }
    assert_eq!(setup.world.0.borrow().told, [20, 21, 22].map(|port| (1, port)).into());
}

#[test]
fn requests_that_were_in_the_ring_before_it_was_mapped_are_served() {
    let mut setup = setup();
    let mut ring = FrontRing::new(setup.world.grant_ring(1, RING, 1)).unwrap();
    assert!(ring.push(&transfer(BLKIF_OP_FLUSH_DISKCACHE, 0, &[])).is_some());
    let _ = ring.publish();
    setup.store.set(&format!("{}/ring-ref", Setup::front(1)), RING);
    setup.store.set(&format!("{}/event-channel", Setup::front(1)), 9);
    setup.set_state(1, 3);
    setup.settle();
    assert!(ring.take().unwrap().is_some());
}

#[test]
fn a_frontend_that_changes_its_state_all_the_time_is_looked_at_now_and_then_and_its_neighbour_at_once() {
    let mut setup = setup();
    setup.add(2, 64..128, false);
    let state = format!("{}/state", Setup::front(1));
    let mut looks = 0;
    let later = loop {
        setup.store.set(&state, 1 + looks % 2 * 4);
        match setup.look_now(1) {
            None => looks += 1,
            Some(later) => break later,
        }
        assert!(looks < 10_000, "no end");
    };
    assert!(looks >= 30 && later > setup.now, "{looks} looks");
    setup.store.set(&format!("{}/state", Setup::front(2)), 5);
    assert_eq!((setup.look_now(2), setup.state(2)), (Some(later), 5));
    // It is not forgotten.
    let last = setup.state(1);
    setup.store.set(&state, if last == 2 { 6 } else { 1 });
    setup.now = later;
    assert_eq!(setup.look_now(2), None);
    assert_ne!(setup.state(1), last);
    setup.now += 60_000_000_000;
    setup.look(1);
    setup.set_state(1, 6);
    setup.set_state(1, 1);
    setup.connect(1);
}

#[test]
fn a_frontend_whose_requests_are_refused_is_served_less_often_and_its_neighbour_is_not() {
    let mut setup = setup();
    setup.add(2, 64..128, false);
    let (mut ring, mut other) = (setup.connect(1), setup.connect(2));
    setup.world.grant_page(2, 10, true);
    let mut refused = 0;
    while refused < 10_000 {
        while ring.push(&transfer(BLKIF_OP_READ, 1 << 60, &[(10, 0, 0)])).is_some() {}
        setup.send(1, &mut ring);
        (0..4).for_each(|_| _ = setup.turn());
        let answers = core::iter::from_fn(|| ring.take().unwrap()).filter(|answer| answer.status == BLKIF_RSP_ERROR);
        match answers.count() {
            0 => break,
            count => refused += count,
        }
    }
    assert!((500..10_000).contains(&refused), "{refused}");
    assert!(other.push(&transfer(BLKIF_OP_READ, 0, &[(10, 0, 0)])).is_some());
    setup.send(2, &mut other);
    (0..4).for_each(|_| _ = setup.turn());
    assert_eq!(other.take().unwrap().map(|answer| answer.status), Some(BLKIF_RSP_OKAY));
    let (more, later) = setup.hub.turn(setup.now, &mut setup.store.0, &mut |_, _| {});
    let later = later.filter(|_| !more).expect("it waits");
    setup.now = later;
    setup.settle();
    assert!(ring.take().unwrap().is_some(), "those in the ring are not forgotten");
}
