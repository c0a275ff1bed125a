//! Two ends of a device over the server: one by calls, one as a domain of its own.

use super::*;
use guest_kernel::block::{Details, Offer};
use guest_kernel::xenbus::{Device, Step, XenbusState, devices, next_of_backend, next_of_frontend};
use proptest::prelude::*;

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

/// One end, which takes the steps that the rules say.
struct End<B> {
    bus: B,
    device: Device,
    next: fn(XenbusState, XenbusState) -> Step,
}

impl<B: Bus> End<B> {
    fn state(&mut self) -> XenbusState {
        self.device.own(&mut self.bus, Tx::NONE, "state").map_or(XenbusState::Unknown, XenbusState::from_number)
    }

    /// Follows the other end if an event came; whether one did.
    fn turn(&mut self) -> bool {
        let mut woken = false;
        while let Some(event) = self.bus.event() {
            assert!(self.device.concerns(&event));
            woken = true;
        }
        if !woken {
            return false;
        }
        loop {
            let (own, theirs) = (self.state(), self.device.their_state(&mut self.bus).unwrap());
            let write = |device: &Device, bus: &mut B, tx| device.write(bus, tx, "ring-ref", 8);
            match (self.next)(own, theirs) {
                Step::Wait => return true,
                Step::Offer(state) => self.device.publish(&mut self.bus, state, write).unwrap(),
                Step::Connect => {
                    assert_eq!(self.device.theirs(&mut self.bus, Tx::NONE, "ring-ref"), Ok(8));
                    self.device.switch(&mut self.bus, XenbusState::Connected).unwrap();
                }
                Step::Close(state) => self.device.switch(&mut self.bus, state).unwrap(),
            }
        }
    }
}

fn settle(front: &mut End<Guest>, back: &mut End<Connection>) {
    (0..20).find(|_| !(front.turn() | back.turn())).expect("no end");
}

#[test]
fn both_ends_meet_part_and_meet_again() {
    let (store, mut control, mut guests) = world(Limits::default(), 1);
    set_up(&mut control);
    let mut guest = guests.remove(0);
    assert_eq!(devices(&mut guest, "vbd").unwrap(), ["device/vbd/51712"]);
    assert_eq!(devices(&mut guest, "vif").unwrap(), [""; 0]);
    let device = Device::frontend(&mut guest, "device/vbd/51712").unwrap();
    assert_eq!((device.other(), device.other_domain()), (BACK, 0));
    assert_eq!(device.theirs_or(&mut guest, Tx::NONE, "no-such", 5), Ok(5));
    let mut front = End { bus: guest, device, next: next_of_frontend };
    let mut bus = Connection::new(&store);
    let device = Device::backend(&mut bus, BACK).unwrap();
    let mut back = End { bus, device, next: next_of_backend };
    front.device.watch(&mut front.bus).unwrap();
    back.device.watch(&mut back.bus).unwrap();
    settle(&mut front, &mut back);
    assert_eq!((front.state(), back.state()), (XenbusState::Connected, XenbusState::Connected));
    // The frontend goes, and comes again as a kernel that was started anew does.
    front.device.switch(&mut front.bus, XenbusState::Closing).unwrap();
    settle(&mut front, &mut back);
    assert_eq!((front.state(), back.state()), (XenbusState::Closed, XenbusState::Closed));
    front.device.switch(&mut front.bus, XenbusState::Initialising).unwrap();
    settle(&mut front, &mut back);
    assert_eq!((front.state(), back.state()), (XenbusState::Connected, XenbusState::Connected));
    // The device is taken away: nobody makes its directory again.
    control.remove(Tx::NONE, FRONT).unwrap();
    settle(&mut front, &mut back);
    assert_eq!(back.state(), XenbusState::Closed);
    assert_eq!(front.device.switch(&mut front.bus, XenbusState::Closed), Err(Errno::ENOENT));
    assert_eq!(front.device.their_state(&mut front.bus), Ok(XenbusState::Closed));
    back.device.unwatch(&mut back.bus).unwrap();
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
