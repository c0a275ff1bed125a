//! A frontend that writes anything anywhere, next to one that just works.

use super::world::*;
use proptest::prelude::*;
use pv_abi::io::block::*;
use std::vec::Vec;
use std::{format, vec};

/// The attacker's domain and the neighbour's.
const ATTACKER: u16 = 1;
const NEIGHBOUR: u16 = 2;
/// The attacker's sectors.
const OWN: core::ops::Range<usize> = 64..128;

#[derive(Clone, Debug)]
enum Action {
    /// A request that is nearly right, into a slot.
    Request(u32, u8, u8, u64, Vec<(u32, u8, u8)>),
    /// A word anywhere in the ring.
    Scribble(usize, u32),
    /// Requests are published, so many.
    Produce(u32),
    Event,
    Grant(u32, bool),
    Revoke(u32),
    /// What is in a granted page.
    Fill(u32, u8),
    State(u32),
    Node(usize, u32),
    Complete(usize, usize),
    Turn,
    Connect,
    /// The domain is gone, and a new one with the same number comes.
    Die,
    Neighbour(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let gref = || prop_oneof![9 => 10u32..20, 1 => any::<u32>()];
    let segments = proptest::collection::vec((gref(), 0u8..9, 0u8..9), 0..11);
    let sector = prop_oneof![9 => 0u64..70, 1 => any::<u64>()];
    prop_oneof![
        8 => (0u32..32, 0u8..8, any::<u8>(), sector, segments)
            .prop_map(|(slot, op, flag, sector, segments)| Action::Request(slot, op, flag, sector, segments)),
        1 => (0usize..1024, any::<u32>()).prop_map(|(word, value)| Action::Scribble(word, value)),
        4 => prop_oneof![20 => 0u32..5, 1 => any::<u32>()].prop_map(Action::Produce),
        4 => Just(Action::Event),
        4 => (10u32..20, any::<bool>()).prop_map(|(gref, writable)| Action::Grant(gref, writable)),
        1 => (10u32..20).prop_map(Action::Revoke),
        1 => (10u32..20, any::<u8>()).prop_map(|(gref, value)| Action::Fill(gref, value)),
        1 => (0u32..10).prop_map(Action::State),
        1 => (0usize..6, 0u32..1010).prop_map(|(node, value)| Action::Node(node, value)),
        3 => (0usize..8, any::<usize>()).prop_map(|(count, choice)| Action::Complete(count, choice)),
        6 => Just(Action::Turn),
        2 => Just(Action::Connect),
        1 => Just(Action::Die),
        3 => (0u64..60).prop_map(Action::Neighbour),
    ]
}

fn act(setup: &mut Setup, ring: &RingMemory, neighbour: &mut FrontRing, action: Action) -> Result<(), TestCaseError> {
    let (front, back) = (Setup::front(ATTACKER), Setup::back(ATTACKER));
    match action {
        Action::Request(slot, operation, flag, sector, segments) => {
            let mut request = transfer(operation, sector, &segments);
            request.nr_segments = if flag < 240 { request.nr_segments } else { flag };
            for (n, word) in zerocopy::IntoBytes::as_bytes(&request).chunks(4).enumerate() {
                scribble(ring, 16 + slot as usize * 28 + n, u32::from_ne_bytes(word.try_into().unwrap()));
            }
        }
        Action::Scribble(word, value) => scribble(ring, word, value),
        Action::Produce(count) => {
            ring[0].fetch_add(count, core::sync::atomic::Ordering::Relaxed);
        }
        Action::Event => _ = setup.world.0.borrow_mut().rung.insert((ATTACKER, 9)),
        Action::Grant(gref, writable) => _ = setup.world.grant_page(ATTACKER, gref, writable),
        Action::Revoke(gref) => _ = setup.world.0.borrow_mut().grants.remove(&(ATTACKER, gref)),
        Action::Fill(gref, value) => {
            let mut memory = setup.world.0.borrow_mut();
            if let Some(&Granted::Page(page, _)) = memory.grants.get(&(ATTACKER, gref)) {
                memory.pages[page].fill(value);
            }
        }
        Action::State(state) => setup.set_state(ATTACKER, state),
        Action::Node(node, value) => {
            let name = ["ring-ref", "event-channel", "ring-page-order", "ring-ref0", "multi-queue-num-queues", "state"];
            setup.store.set(&format!("{front}/{}", name[node]), value);
        }
        Action::Complete(count, choice) => {
            let mut platter = setup.disk.platter.borrow_mut();
            (platter.allowed, platter.choice) = (count, choice);
        }
        Action::Turn => _ = setup.turn(),
        Action::Connect => {
            for (name, value) in [("ring-ref", RING), ("event-channel", 9)] {
                setup.store.set(&format!("{front}/{name}"), value);
            }
            for name in ["ring-page-order", "multi-queue-num-queues"] {
                setup.store.remove(&format!("{front}/{name}"));
            }
            (0..4).for_each(|word| scribble(ring, word, word as u32 & 1));
            [6, 1, 3].into_iter().for_each(|state| setup.set_state(ATTACKER, state));
        }
        Action::Die => {
            setup.store.remove(&front);
            setup.store.remove(&back);
            setup.look(ATTACKER);
            setup.hub.remove(&back).unwrap();
            setup.add(ATTACKER, OWN.start as u64..OWN.end as u64, false);
        }
        Action::Neighbour(sector) => {
            let allowed = core::mem::replace(&mut setup.disk.platter.borrow_mut().allowed, usize::MAX);
            // Whatever the attacker does, its neighbour has its answer after a number of turns that is bounded.
            prop_assert!(neighbour.push(&transfer(BLKIF_OP_READ, sector, &[(10, 0, 0)])).is_some());
            setup.send(NEIGHBOUR, neighbour);
            (0..12).for_each(|_| _ = setup.turn());
            let answer = neighbour.take().unwrap();
            prop_assert_eq!(answer.map(|answer| answer.status), Some(BLKIF_RSP_OKAY));
            setup.disk.platter.borrow_mut().allowed = allowed;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_hostile_frontend_gets_nowhere(actions in proptest::collection::vec(action(), 0..250)) {
        let mut setup = Setup::new(6);
        setup.add(ATTACKER, OWN.start as u64..OWN.end as u64, false);
        setup.add(NEIGHBOUR, 0..64, false);
        let ring = setup.world.grant_ring(ATTACKER, RING, 1);
        let mut neighbour = setup.connect(NEIGHBOUR);
        setup.world.grant_page(NEIGHBOUR, 10, true);
        let before = setup.disk.platter.borrow().bytes.clone();
        act(&mut setup, &ring, &mut neighbour, Action::Connect)?;
        for action in actions {
            act(&mut setup, &ring, &mut neighbour, action)?;
        }
        // Nobody but the attacker has other data than before, and nothing of it is held when it is gone.
        {
            let platter = setup.disk.platter.borrow();
            prop_assert_eq!(&platter.bytes[..OWN.start * 512], &before[..OWN.start * 512]);
            prop_assert_eq!(&platter.bytes[OWN.end * 512..], &before[OWN.end * 512..]);
        }
        setup.disk.platter.borrow_mut().allowed = usize::MAX;
        setup.hub.remove(&Setup::back(ATTACKER)).unwrap();
        (0..40).for_each(|_| _ = setup.turn());
        prop_assert_eq!((setup.world.held(), setup.world.0.borrow().rings_mapped), (0, 1));
    }
}
