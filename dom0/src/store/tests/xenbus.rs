//! Two ends of a device over the server: a back end by calls, a frontend as a domain of its own.

use super::*;
use crate::nodes::Nodes;
use guest_kernel::block::{Details, Offer};
use guest_kernel::xenbus::{Device, Step, XenbusState, devices, next_of_backend};
use proptest::prelude::*;
use std::format;
use std::string::ToString;

const FRONT: &str = "/local/domain/1/device/vbd/51712";
const BACK: &str = "/local/domain/0/backend/vbd/1/51712";

/// What a toolstack writes for a device.
fn set_up(control: &mut Connection) {
    let nodes = [
        (FRONT, [("backend", BACK), ("backend-id", "0"), ("state", "1")], "n1 r0"),
        (BACK, [("frontend", FRONT), ("frontend-id", "1"), ("state", "1")], "n0 r1"),
    ];
    for (directory, values, all) in nodes {
        control.mkdir(Tx::NONE, directory).unwrap();
        control.set_permissions(Tx::NONE, directory, &permissions(all)).unwrap();
        for (name, value) in values {
            control.write(Tx::NONE, &[directory, "/", name].concat(), value.as_bytes()).unwrap();
        }
    }
}

/// The back end's state.
fn state(back: &mut Connection) -> XenbusState {
    Nodes { directory: BACK, bus: back }.state()
}

/// Follows the frontend, of which an event told.
fn follow(back: &mut Connection, front: &str) {
    assert!(back.event().is_some());
    while back.event().is_some() {}
    loop {
        let state = match next_of_backend(state(back), Nodes { directory: front, bus: back }.state()) {
            Step::Wait => return,
            Step::Offer => XenbusState::InitWait,
            Step::Connect => {
                assert_eq!(Nodes { directory: front, bus: back }.parsed("ring-ref"), Ok(8));
                XenbusState::Connected
            }
            Step::Close => XenbusState::Closing,
            Step::Finish => XenbusState::Closed,
        };
        Nodes { directory: BACK, bus: back }.publish(&[("state", &state.number().to_string())]);
    }
}

#[test]
fn both_ends_meet_part_and_meet_again() {
    let (store, mut control, mut guests) = world(Limits::default(), 1);
    set_up(&mut control);
    let mut guest = guests.remove(0);
    assert_eq!(devices(&mut guest, "vbd").unwrap(), ["device/vbd/51712"]);
    assert_eq!(devices(&mut guest, "vif").unwrap(), [""; 0]);
    let front = Device::frontend(&mut guest, "device/vbd/51712").unwrap();
    assert_eq!((front.other(), front.other_domain()), (BACK, 0));
    assert_eq!(front.theirs_or(&mut guest, Tx::NONE, "no-such", 5), Ok(5));
    front.watch(&mut guest).unwrap();
    let mut back = Connection::new(&store);
    back.watch(&format!("{FRONT}/state"), FRONT).unwrap();
    for _ in 0..2 {
        front.switch(&mut guest, XenbusState::Initialising).unwrap();
        follow(&mut back, FRONT);
        assert_eq!(front.their_state(&mut guest), Ok(XenbusState::InitWait));
        let offer = |device: &Device, bus: &mut Guest, tx| device.write(bus, tx, "ring-ref", 8);
        front.publish(&mut guest, XenbusState::Initialised, offer).unwrap();
        follow(&mut back, FRONT);
        assert_eq!(front.their_state(&mut guest), Ok(XenbusState::Connected));
        // The frontend goes, and comes again as a kernel that was started anew does.
        front.switch(&mut guest, XenbusState::Closing).unwrap();
        follow(&mut back, FRONT);
        front.switch(&mut guest, XenbusState::Closed).unwrap();
        follow(&mut back, FRONT);
        assert_eq!(state(&mut back), XenbusState::Closed);
    }
    assert!(front.concerns(&guest.event().unwrap()));
    // The device is taken away: nobody makes its directory again.
    control.remove(Tx::NONE, FRONT).unwrap();
    follow(&mut back, FRONT);
    assert_eq!(front.switch(&mut guest, XenbusState::Closed), Err(Errno::ENOENT));
    assert_eq!(front.their_state(&mut guest), Ok(XenbusState::Closed));
    front.unwatch(&mut guest).unwrap();
}

proptest! {
    /// A back end whose nodes are missing or make no sense: the front end refuses, or has numbers that it can use.
    #[test]
    fn a_back_end_that_lies_in_the_store(
        nodes in proptest::collection::vec((0usize..8, prop_oneof!["[0-9]{1,21}", "-?[0-9]", "\\PC{0,8}"]), 0..24),
    ) {
        const NODES: [&str; 8] = [
            "state", "max-ring-page-order", "sectors", "sector-size", "info",
            "feature-flush-cache", "feature-discard", "feature-max-indirect-segments",
        ];
        let (_store, mut control, mut guests) = world(Limits::default(), 1);
        set_up(&mut control);
        let mut guest = guests.remove(0);
        let device = Device::frontend(&mut guest, "device/vbd/51712").unwrap();
        for (node, value) in nodes {
            let path = [BACK, "/", NODES[node]].concat();
            match value.as_str() {
                "" => _ = control.remove(Tx::NONE, &path),
                value => control.write(Tx::NONE, &path, value.as_bytes()).unwrap(),
            }
            prop_assert!(device.their_state(&mut guest).is_ok());
            if let Ok(pages) = Offer::most_pages(&device, &mut guest) {
                prop_assert!(pages.is_power_of_two() && pages <= 256);
            }
            if let Ok(details) = Details::read(&device, &mut guest) {
                prop_assert!(details.sector_bytes.is_power_of_two() && details.sector_bytes >= 512);
                prop_assert!(details.indirect_segments == 0 || details.indirect_segments > 11);
            }
        }
    }
}
