//! What requests cost does not depend on how many domains there are: nodes and watches looked at are counted. Requests that
//! make the server look at a great many are charged for it.

use super::*;
use std::format;

/// Nodes and watches looked at for the same few requests of domain 1 among `domains` that are set up as usual.
fn cost(domains: u16) -> (usize, usize) {
    let (store, mut control, mut guests) = world(Limits::default(), domains);
    for (domain, guest) in (1..).zip(&mut guests) {
        let back = format!("/local/domain/0/backend/vbd/{domain}/51712");
        control.write(Tx::NONE, &format!("{back}/state"), b"2").unwrap();
        control.set_permissions(Tx::NONE, &back, &permissions(&format!("n0 r{domain}"))).unwrap();
        control.watch(&format!("/local/domain/{domain}/device"), &format!("{domain}")).unwrap();
        guest.write(Tx::NONE, "device/vbd/51712/state", b"1").unwrap();
        guest.watch(&format!("{back}/state"), "state").unwrap();
        guest.watch("control/shutdown", "shutdown").unwrap();
    }
    let before = store.borrow().visits();
    let guest = &mut guests[0];
    guest.read(Tx::NONE, "/local/domain/1/device/vbd/51712/state").unwrap();
    guest.write(Tx::NONE, "device/vbd/51712/state", b"3").unwrap();
    control.write(Tx::NONE, "/local/domain/0/backend/vbd/1/51712/state", b"4").unwrap();
    let tx = guest.start().unwrap();
    guest.read(tx, "device/vbd/51712/state").unwrap();
    guest.write(tx, "device/vbd/51712/ring-ref", b"8").unwrap();
    guest.end(tx, true).unwrap();
    guest.remove(Tx::NONE, "device").unwrap();
    let after = store.borrow().visits();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn lookups_and_watches_cost_the_same_among_10_and_500_domains() {
    let (nodes, watches) = cost(10);
    assert_eq!(cost(500), (nodes, watches));
    // So few that nobody walked over everything even among 10.
    assert!(nodes < 120 && watches < 10, "{nodes} nodes, {watches} watches");
}

/// As with 128 watches on the deepest of 500 nodes, the uppermost of which is removed.
#[test]
fn a_request_that_looks_at_much_costs_much() {
    let (store, _, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    let mut cost = |act: &mut dyn FnMut(&mut Guest)| {
        let before = store.borrow().cost();
        act(guest);
        store.borrow().cost() - before
    };
    let deep = format!("d{}", "/a".repeat(499));
    let cheap = cost(&mut |guest| guest.write(Tx::NONE, "x", b"").unwrap());
    assert!((1..5_000).contains(&cheap), "{cheap}");
    let dear = cost(&mut |guest| {
        guest.write(Tx::NONE, &deep, b"").unwrap();
        (0..128).for_each(|n| guest.watch(&deep, &format!("{n}")).unwrap());
    });
    assert!(dear > 500 * 60, "{dear}");
    let dearer = cost(&mut |guest| guest.remove(Tx::NONE, "d").unwrap());
    assert!(dearer > 128 * 500 * 50, "{dearer}");
    for n in 0..900 {
        cost(&mut |guest| guest.mkdir(Tx::NONE, &format!("{n}")).unwrap());
    }
    let listed = cost(&mut |guest| assert_eq!(guest.directory(Tx::NONE, "/local/domain/1").unwrap().len(), 901));
    assert!(listed > 900 * 400, "{listed}");
}
