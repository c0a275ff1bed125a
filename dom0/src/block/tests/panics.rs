//! The back end panics in the middle of anything, next to a frontend that just works.

use super::world::*;
use proptest::prelude::*;
use pv_abi::io::block::*;
use std::format;
use std::vec::Vec;
use zerocopy::FromZeros;

/// The domain whose back end panics, and its neighbour.
const VICTIM: u16 = 1;
const NEIGHBOUR: u16 = 2;
/// Pages that the victim has granted, by grant reference.
const PAGES: core::ops::Range<u32> = 10..20;

#[derive(Clone, Debug)]
enum Action {
    /// A request: operation, sector, segments.
    Request(u8, u64, Vec<u32>),
    /// The back end is to panic, so many calls for the victim and looks at its ring from now on.
    Fuse(usize),
    Complete(usize, usize),
    Work,
    /// The frontend looks how its back end is, and connects again if that has closed.
    Look,
    Neighbour(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let operation = prop_oneof![
        4 => Just(BLKIF_OP_READ),
        4 => Just(BLKIF_OP_WRITE),
        1 => Just(BLKIF_OP_WRITE_BARRIER),
        1 => Just(BLKIF_OP_FLUSH_DISKCACHE),
        2 => Just(BLKIF_OP_INDIRECT),
    ];
    let segments = proptest::collection::vec(PAGES, 1..11);
    prop_oneof![
        8 => (operation, 0u64..40, segments).prop_map(|(op, sector, segments)| Action::Request(op, sector, segments)),
        2 => (0usize..80).prop_map(Action::Fuse),
        4 => (0usize..8, any::<usize>()).prop_map(|(count, choice)| Action::Complete(count, choice)),
        6 => Just(Action::Work),
        2 => Just(Action::Look),
        2 => (0u64..60).prop_map(Action::Neighbour),
    ]
}

fn request(operation: u8, sector: u64, segments: &[u32]) -> BlkifRequest {
    if operation == BLKIF_OP_FLUSH_DISKCACHE {
        return BlkifRequest { operation, ..FromZeros::new_zeroed() };
    }
    if operation == BLKIF_OP_INDIRECT {
        let mut indirect = BlkifRequestIndirect {
            operation,
            indirect_op: BLKIF_OP_READ,
            nr_segments: 20,
            sector_number: sector,
            ..BlkifRequestIndirect::default()
        };
        // A page of data is the list: of zeros, so that its grants are none of those that there are.
        indirect.indirect_grefs[0] = segments[0];
        let mut request: BlkifRequest = FromZeros::new_zeroed();
        let bytes = zerocopy::IntoBytes::as_bytes(&indirect);
        zerocopy::IntoBytes::as_mut_bytes(&mut request)[..bytes.len()].copy_from_slice(bytes);
        return request;
    }
    let segments: Vec<_> = segments.iter().map(|gref| (*gref, 0, 0)).collect();
    transfer(operation, sector, &segments)
}

/// The victim's frontend, as it starts anew or goes on.
fn look(setup: &mut Setup, ring: &mut FrontRing) -> Result<(), TestCaseError> {
    if setup.state(VICTIM) == 4 {
        return Ok(());
    }
    // What the disk has it gets done with; the fuse is what this is not about.
    setup.world.0.borrow_mut().fuse = None;
    let allowed = core::mem::replace(&mut setup.disk.platter.borrow_mut().allowed, usize::MAX);
    for state in [6, 1] {
        setup.set_state(VICTIM, state);
        (0..8).for_each(|_| setup.work());
    }
    prop_assert_eq!(setup.state(VICTIM), 2, "it is not offered again");
    *ring = setup.connect(VICTIM);
    setup.disk.platter.borrow_mut().allowed = allowed;
    Ok(())
}

proptest! {
    #[test]
    fn a_panic_ends_a_virtual_disk_and_no_other(actions in proptest::collection::vec(action(), 0..200)) {
        let mut setup = Setup::new(6);
        setup.add(VICTIM, 64..128, false);
        setup.add(NEIGHBOUR, 0..64, false);
        let mut neighbour = setup.connect(NEIGHBOUR);
        setup.world.grant_page(NEIGHBOUR, 10, true);
        PAGES.for_each(|gref| _ = setup.world.grant_page(VICTIM, gref, true));
        let mut ring = setup.connect(VICTIM);
        for action in actions {
            match action {
                Action::Request(operation, sector, segments) => {
                    while let Ok(Some(_)) = ring.take() {}
                    if ring.push(&request(operation, sector, &segments)).is_some() {
                        setup.send(VICTIM, &mut ring);
                    }
                }
                Action::Fuse(calls) => setup.world.0.borrow_mut().fuse = Some((VICTIM, calls)),
                Action::Complete(count, choice) => {
                    let mut platter = setup.disk.platter.borrow_mut();
                    (platter.allowed, platter.choice) = (count, choice);
                }
                Action::Work => {
                    let before = setup.faults.len();
                    setup.work();
                    // It says so at once, and has let go of all that the disk doesn't use.
                    if setup.faults.len() > before {
                        prop_assert_ne!(setup.state(VICTIM), 4);
                        prop_assert!(setup.world.held() <= 6 * 10);
                    }
                }
                Action::Look => look(&mut setup, &mut ring)?,
                Action::Neighbour(sector) => {
                    let allowed = core::mem::replace(&mut setup.disk.platter.borrow_mut().allowed, usize::MAX);
                    prop_assert!(neighbour.push(&transfer(BLKIF_OP_READ, sector, &[(10, 0, 0)])).is_some());
                    setup.send(NEIGHBOUR, &mut neighbour);
                    (0..12).for_each(|_| setup.work());
                    let answer = neighbour.take().unwrap();
                    prop_assert_eq!(answer.map(|answer| answer.status), Some(BLKIF_RSP_OKAY));
                    setup.disk.platter.borrow_mut().allowed = allowed;
                }
            }
        }
        // Whatever has happened, it works in the end, and what is flushed is there.
        setup.world.0.borrow_mut().fuse = None;
        setup.disk.platter.borrow_mut().allowed = usize::MAX;
        setup.work();
        look(&mut setup, &mut ring)?;
        (0..8).for_each(|_| setup.work());
        while let Ok(Some(_)) = ring.take() {}
        let page = setup.world.grant_page(VICTIM, 30, true);
        setup.world.0.borrow_mut().pages[page].fill(0x5a);
        prop_assert_eq!(setup.ask(VICTIM, &mut ring, transfer(BLKIF_OP_WRITE, 63, &[(30, 0, 0)])), BLKIF_RSP_OKAY);
        prop_assert_eq!(setup.ask(VICTIM, &mut ring, request(BLKIF_OP_FLUSH_DISKCACHE, 0, &[])), BLKIF_RSP_OKAY);
        prop_assert!(setup.disk.platter.borrow().durable[127 * 512..128 * 512].iter().all(|byte| *byte == 0x5a));
        {
            let memory = setup.world.0.borrow();
            prop_assert_eq!((setup.world.held(), memory.rings_mapped, memory.ports_open), (0, 2, 2));
        }
        setup.hub.remove(&Setup::back(VICTIM)).unwrap();
        (0..4).for_each(|_| setup.work());
        let memory = setup.world.0.borrow();
        prop_assert_eq!((setup.world.held(), memory.rings_mapped, memory.ports_open), (0, 1, 1));
    }
}

/// One that panics every time is looked at once in a while.
#[test]
fn a_panic_is_paid_for() {
    let mut setup = Setup::new(6);
    setup.add(VICTIM, 64..128, false);
    let front = Setup::front(VICTIM);
    setup.world.grant_ring(VICTIM, RING, 1);
    setup.store.set(&format!("{front}/ring-ref"), RING);
    setup.store.set(&format!("{front}/event-channel"), 9);
    setup.now = 10_000_000_000;
    let mut later = None;
    while later.is_none() {
        assert!(setup.faults.len() < 20, "no end");
        setup.world.0.borrow_mut().fuse = Some((VICTIM, 1));
        for state in [6, 1, 3] {
            setup.store.set(&format!("{front}/state"), state);
            later = setup.look_now(VICTIM).filter(|later| *later > setup.now);
        }
    }
    assert!(setup.faults.len() > 2, "{:?}", setup.faults);
    assert_eq!((setup.world.0.borrow().rings_mapped, setup.world.0.borrow().ports_open), (0, 0));
}
