//! Tests of a device's negotiation, with the real store.

use super::tests::{Memory, Words, words};
use super::*;
use crate::net::bridge::Rate;
use crate::net::toolstack::{self, NewVif};
use crate::net::{Packet, Switch};
use crate::service::Next;
use crate::store::{Connection, Limits, Shared, shared};
use crate::toolstack::remove_all;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::net::rings::Rings;
use guest_kernel::store::{Bus, Tx};
use guest_kernel::xenbus::XenbusState;
use log::Level;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;
use std::{format, vec};

const BACK: &str = "/local/domain/0/backend/vif/5/0";
const FRONT: &str = "/local/domain/5/device/vif/0";
const MAC: Mac = Mac([0, 0x16, 0x3e, 0, 0, 5]);

/// What the guest granted and allocated, and what of it is in use.
#[derive(Clone, Default)]
struct Guest {
    rings: Rc<RefCell<BTreeMap<u32, Words>>>,
    ports: Rc<RefCell<Vec<u32>>>,
    notified: Rc<RefCell<Vec<u32>>>,
    reports: Rc<RefCell<Vec<String>>>,
    memory: Option<Memory>,
    /// How many calls go well before the device panics in one.
    fuse: Rc<Cell<Option<usize>>>,
}

impl Guest {
    fn burn(&self) {
        let Some(left) = self.fuse.get() else { return };
        self.fuse.set(left.checked_sub(1));
        if left == 0 {
            // As a panic does, but without a message to the test's output.
            std::panic::resume_unwind(Box::new("made up"));
        }
    }
}

struct OpenPort(u32, Rc<RefCell<Vec<u32>>>);

impl Drop for OpenPort {
    fn drop(&mut self) {
        self.1.borrow_mut().retain(|port| *port != self.0);
    }
}

impl Platform for Guest {
    type Ring = Words;
    type Port = OpenPort;

    fn ring(&mut self, domain: u16, gref: u32) -> Option<Words> {
        assert_eq!(domain, 5);
        self.burn();
        self.rings.borrow().get(&gref).cloned()
    }

    fn port(&mut self, _: u16, remote: u32) -> Option<OpenPort> {
        self.burn();
        self.ports.borrow_mut().push(remote);
        (remote < 100).then(|| OpenPort(remote, self.ports.clone()))
    }

    fn notify(&mut self, port: &OpenPort) {
        self.burn();
        self.notified.borrow_mut().push(port.0);
    }

    fn pages(&mut self, _: u16) -> impl GrantCopy {
        self.burn();
        self.memory.clone().unwrap()
    }

    fn report(&mut self, _: Level, text: fmt::Arguments<'_>) {
        self.reports.borrow_mut().push(text.to_string());
    }
}

struct World {
    store: Shared,
    /// As the guest, but with all rights: what it may do is the store's to test.
    bus: Connection,
    guest: Guest,
    switch: Rc<RefCell<Switch>>,
}

impl World {
    fn new() -> World {
        let store: Shared = shared(Limits::default());
        let mut bus = Connection::new(&store);
        let rate = Some(Rate::new(1_000_000));
        toolstack::device(0, &NewVif { mac: MAC, rate, any_source: false }).add(&mut bus, 5, 0).unwrap();
        let guest = Guest { memory: Some(Memory::new()), ..Guest::default() };
        guest.rings.borrow_mut().extend((8..16).map(|gref| (gref, words())));
        World { store, bus, guest, switch: Rc::new(RefCell::new(Switch::new(1 << 20))) }
    }

    fn vif(&self) -> Vif<Guest, Connection> {
        let bus = Connection::new(&self.store);
        Vif::new(BACK.into(), bus, self.guest.clone(), self.switch.clone(), Box::new(|| ()), 0).unwrap()
    }

    fn write(&mut self, nodes: &[(&str, &str)]) {
        for (name, value) in nodes {
            self.bus.write(Tx::NONE, &format!("{FRONT}/{name}"), value.as_bytes()).unwrap();
        }
    }

    fn state(&mut self) -> u32 {
        self.bus.read_number(Tx::NONE, &format!("{BACK}/state")).unwrap()
    }
}

/// What Linux's frontend writes for one queue.
const LINUX: [(&str, &str); 10] = [
    ("tx-ring-ref", "8"),
    ("rx-ring-ref", "9"),
    ("event-channel-tx", "11"),
    ("event-channel-rx", "12"),
    ("request-rx-copy", "1"),
    ("feature-rx-notify", "1"),
    ("feature-sg", "1"),
    ("feature-gso-tcpv4", "1"),
    ("feature-gso-tcpv6", "1"),
    ("feature-ipv6-csum-offload", "1"),
];

#[test]
fn a_frontend_connects_leaves_and_comes_again() {
    let mut world = World::new();
    let mut vif = world.vif();
    assert_eq!(vif.work(0), Next::Wait);
    assert_eq!(world.state(), 2);
    for name in ["feature-rx-copy", "feature-sg", "feature-split-event-channels"] {
        assert_eq!(world.bus.read_text(Tx::NONE, &format!("{BACK}/{name}")).unwrap(), "1");
    }
    for _ in 0..2 {
        world.write(&LINUX);
        assert_eq!((vif.work(0), world.state()), (Next::Wait, 2), "it isn't ready");
        world.write(&[("state", "4")]);
        vif.work(0);
        assert_eq!((world.state(), vif.state()), (4, XenbusState::Connected));
        assert_eq!(*world.guest.ports.borrow(), [11, 12]);
        world.write(&[("state", "5")]);
        vif.work(0);
        assert_eq!((world.state(), world.guest.ports.borrow().len()), (5, 0));
        assert_eq!(Arc::strong_count(&world.guest.rings.borrow()[&8]), 1, "nobody else has it");
        world.write(&[("state", "6")]);
        vif.work(0);
        assert_eq!(world.state(), 6);
        world.write(&[("state", "1")]);
        vif.work(0);
        assert_eq!(world.state(), 2);
    }
    assert!(world.guest.reports.borrow().is_empty());
    // The domain is gone.
    world.write(&LINUX);
    world.write(&[("state", "4")]);
    vif.work(0);
    remove_all(&mut world.bus, toolstack::KIND, 5).unwrap();
    assert_eq!(vif.work(0), Next::End);
    assert!(world.guest.ports.borrow().is_empty());
    assert!(world.bus.read(Tx::NONE, BACK).is_err(), "what was removed stays removed");
    drop(vif);
    toolstack::device(0, &NewVif { mac: MAC, rate: None, any_source: false }).add(&mut world.bus, 5, 0).unwrap();
    world.vif();
}

#[test]
fn packets_flow_and_a_lie_closes_the_device() {
    let mut world = World::new();
    let mut vif = world.vif();
    let (tx, rx) = (words(), words());
    let mut rings = Rings::new(tx.clone(), rx.clone(), world.guest.memory.clone().unwrap()).unwrap();
    let _ = rings.publish_rx();
    world.guest.rings.borrow_mut().extend([(8, tx.clone()), (9, rx)]);
    world.write(&LINUX);
    world.write(&[("state", "4")]);
    vif.work(0);
    let frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9], &[8, 0], &[7; 50]].concat();
    let other = crate::net::bridge::Settings { mac: None, rate: None, learned: 4 };
    let other = world.switch.borrow_mut().add(other, Box::new(|| ()), 0).unwrap();
    world.switch.borrow_mut().send(other, Packet::plain(frame.clone()), 0);
    assert_eq!(vif.work(0), Next::Wait);
    assert_eq!(*world.guest.notified.borrow(), [12]);
    assert_eq!(rings.receive().unwrap().unwrap().data, frame);
    // Twice a ring ahead.
    tx[0].store(600, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(vif.work(0), Next::Wait);
    assert_eq!(world.state(), 5);
    assert_eq!(world.guest.reports.borrow().len(), 1);
    assert!(world.guest.ports.borrow().is_empty());
}

#[test]
fn a_frontend_whose_packets_are_refused_is_served_less_often() {
    let mut world = World::new();
    let mut vif = world.vif();
    let (tx, rx) = (words(), words());
    let mut rings = Rings::new(tx.clone(), rx.clone(), world.guest.memory.clone().unwrap()).unwrap();
    world.guest.rings.borrow_mut().extend([(8, tx), (9, rx)]);
    world.write(&LINUX);
    world.write(&[("state", "4")]);
    vif.work(0);
    let mut sent = 0;
    let later = loop {
        // From another address than its own.
        while rings.can_send().unwrap() {
            let _ = rings.send(20, |bytes| {
                bytes.fill(4);
                false
            });
            sent += 1;
        }
        match vif.work(0) {
            Next::WaitUntil(later) => break later,
            next => assert!(sent < 10_000, "{next:?}"),
        }
    };
    assert!(sent > 500 && later > 0, "{sent}");
    assert!(!rings.can_send().unwrap());
    vif.work(later);
    assert!(rings.can_send().unwrap(), "those in the ring are not forgotten");
}

#[test]
fn what_a_frontend_must_write() {
    let wrong: [&[(&str, &str)]; 8] = [
        &[("request-rx-copy", "0")],
        &[("tx-ring-ref", "77")],
        &[("tx-ring-ref", "-1")],
        &[("rx-ring-ref", "")],
        &[("event-channel-tx", "100")],
        &[("event-channel-rx", "x")],
        &[("feature-sg", "2")],
        &[("multi-queue-num-queues", "5")],
    ];
    for change in wrong {
        let mut world = World::new();
        let mut vif = world.vif();
        world.write(&LINUX);
        world.write(change);
        world.write(&[("state", "4")]);
        assert_eq!(vif.work(0), Next::Wait);
        assert_eq!(world.state(), 5, "{change:?}");
        assert_eq!(world.guest.reports.borrow().len(), 1, "{change:?}");
        let ports: Vec<u32> = world.guest.ports.borrow().iter().copied().filter(|port| *port < 100).collect();
        assert_eq!(ports, vec![0; 0], "{change:?}");
        // It may think again.
        world.write(&[("state", "6")]);
        vif.work(0);
        world.write(&LINUX);
        world.write(&[("multi-queue-num-queues", "1"), ("state", "1")]);
        vif.work(0);
        world.write(&[("state", "4")]);
        vif.work(0);
        assert_eq!(world.state(), 4);
    }
}

#[test]
fn several_queues_have_directories_of_their_own() {
    let mut world = World::new();
    let mut vif = world.vif();
    world.write(&[("request-rx-copy", "1"), ("multi-queue-num-queues", "2")]);
    for (queue, base) in [(0, 8), (1, 10)] {
        let nodes = [("tx-ring-ref", base), ("rx-ring-ref", base + 1), ("event-channel", base)];
        for (name, value) in nodes {
            world.write(&[(&format!("queue-{queue}/{name}"), &value.to_string())]);
        }
    }
    world.write(&[("state", "4")]);
    vif.work(0);
    assert_eq!((world.state(), world.guest.ports.borrow().clone()), (4, vec![8, 10]));
}

#[test]
fn an_address_in_use_is_refused() {
    let mut world = World::new();
    let _first = world.vif();
    let new = NewVif { mac: MAC, rate: None, any_source: false };
    toolstack::device(0, &new).add(&mut world.bus, 6, 0).unwrap();
    let back = format!("{}/6/0", toolstack::BACKENDS);
    let bus = Connection::new(&world.store);
    let second = Vif::new(back, bus, world.guest.clone(), world.switch.clone(), Box::new(|| ()), 0);
    assert!(matches!(second, Err(Refusal::MacInUse(MAC))));
}

#[test]
fn a_frontend_that_changes_its_state_all_the_time_is_looked_at_now_and_then() {
    let mut world = World::new();
    let mut vif = world.vif();
    let mut looks = 0;
    let later = loop {
        world.write(&[("state", if looks % 2 == 0 { "5" } else { "1" })]);
        match vif.work(0) {
            Next::Wait => looks += 1,
            next => break next,
        }
        assert!(looks < 10_000, "no end");
    };
    let Next::WaitUntil(later) = later else { panic!("{later:?}") };
    assert!(looks >= 30 && later > 0, "{looks} looks");
    assert_eq!(vif.work(later - 1), Next::WaitUntil(later));
    // It is not forgotten, and a frontend that has stopped that is served.
    assert_eq!(vif.work(later), Next::Wait);
    let now = later + 60_000_000_000;
    for state in ["6", "1"] {
        world.write(&[("state", state)]);
        vif.work(now);
    }
    world.write(&LINUX);
    world.write(&[("state", "4")]);
    vif.work(now);
    assert_eq!(world.state(), 4);
}

/// Wherever the device panics, its frontend's rings and ports are given back, and the frontend can connect again; its
/// neighbour's packets come.
#[test]
fn a_panic_closes_the_device() {
    for calls in 0..12 {
        let mut world = World::new();
        let mut vif = world.vif();
        let (tx, rx) = (words(), words());
        world.guest.rings.borrow_mut().extend([(8, tx), (9, rx)]);
        let other = crate::net::bridge::Settings { mac: None, rate: None, learned: 4 };
        let other = world.switch.borrow_mut().add(other, Box::new(|| ()), 0).unwrap();
        let frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9], &[8, 0], &[7; 50]].concat();
        let mut panicked = false;
        for now in 1..4 {
            let (tx, rx) = (world.guest.rings.borrow()[&8].clone(), world.guest.rings.borrow()[&9].clone());
            [&tx, &rx].into_iter().for_each(|ring| (0..4).for_each(|word| ring[word].store(0, SeqCst)));
            let mut rings = Rings::new(tx, rx, world.guest.memory.clone().unwrap()).unwrap();
            let _ = rings.publish_rx();
            world.guest.fuse.set((!panicked).then_some(calls));
            world.write(&LINUX);
            world.write(&[("state", "4")]);
            vif.work(now);
            world.switch.borrow_mut().send(other, Packet::plain(frame.clone()), 0);
            vif.work(now);
            world.guest.fuse.set(None);
            let reports = core::mem::take(&mut *world.guest.reports.borrow_mut());
            assert!(reports.iter().all(|report| report.ends_with("made up")), "{reports:?}");
            assert_eq!(world.state(), if reports.is_empty() { 4 } else { 5 });
            if reports.is_empty() {
                assert_eq!(rings.receive().unwrap().unwrap().data, frame);
            } else {
                panicked = true;
                assert!(world.guest.ports.borrow().is_empty());
                assert_eq!(Arc::strong_count(&world.guest.rings.borrow()[&8]), 2, "the front end's");
            }
            for state in ["6", "1"] {
                world.write(&[("state", state)]);
                vif.work(now);
            }
            assert_eq!(world.state(), 2);
        }
        assert!(panicked || calls > 6, "{calls}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// States and nodes out of order: the device never panics, and a frontend that then does it right is connected.
    #[test]
    fn out_of_order(steps in proptest::collection::vec((0usize..14, 0u32..20), 0..60)) {
        let mut world = World::new();
        let mut vif = world.vif();
        let mut now = 0;
        for (node, value) in steps {
            match LINUX.get(node) {
                Some((name, _)) => world.write(&[(name, &value.to_string())]),
                None => world.write(&[("state", &(value % 10).to_string())]),
            }
            now += 1_000_000_000;
            prop_assert!(vif.work(now) != Next::End);
            prop_assert!(world.guest.ports.borrow().is_empty() || vif.state() == XenbusState::Connected);
        }
        for state in ["6", "1"] {
            world.write(&[("state", state)]);
            vif.work(now);
        }
        world.write(&LINUX);
        world.write(&[("state", "4")]);
        vif.work(now);
        prop_assert_eq!(world.state(), 4);
    }
}
