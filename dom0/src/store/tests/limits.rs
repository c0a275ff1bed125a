//! What a domain can make grow stops at its limits.

use super::*;
use std::string::String;
use std::{format, vec};

const NONE: Tx = Tx::NONE;

/// Does something until it is refused; how often it went well, and the error.
fn until_refused(mut act: impl FnMut(usize) -> Result<(), Errno>) -> (usize, Errno) {
    (0..100_000).find_map(|n| act(n).err().map(|errno| (n, errno))).expect("no limit")
}

#[test]
fn nodes() {
    let (store, mut control, mut guests) = world(Limits::default(), 2);
    let guest = &mut guests[0];
    // Its home is one of them.
    let refused = until_refused(|n| guest.write(NONE, &format!("n{n}"), b""));
    assert_eq!(refused, (999, Errno::ENOSPC));
    // Deep ones count too, and so do those in a transaction, which leaves nothing.
    assert_eq!(guest.mkdir(NONE, "/all/a"), Err(Errno::ENOSPC));
    guest.remove(NONE, "n0").unwrap();
    assert_eq!(guest.mkdir(NONE, "/all/a/b"), Err(Errno::ENOSPC));
    assert_eq!(guest.mkdir(NONE, "/all/a"), Ok(()));
    let tx = guest.start().unwrap();
    guest.remove(tx, "n1").unwrap();
    guest.mkdir(tx, "x").unwrap();
    assert_eq!(guest.end(tx, true), Ok(()));
    let tx = guest.start().unwrap();
    guest.remove(tx, "n2").unwrap();
    guest.mkdir(tx, "y/z").unwrap();
    assert_eq!(guest.end(tx, true), Err(Errno::ENOSPC));
    assert_eq!(guest.read(NONE, "n2"), Ok(vec![]));
    // Others aren't held up, and domain 0 has no limit.
    guests[1].write(NONE, "x", b"").unwrap();
    control.write(NONE, "/local/domain/1/more", b"").unwrap();
    assert_eq!(store.borrow().usage(1).1.0, 1001);
    assert_eq!(guests[0].mkdir(NONE, "x/y"), Err(Errno::ENOSPC));
    guests[0].write(NONE, "x", b"a change needs no node").unwrap();
    control.release(1).unwrap();
    assert_eq!(store.borrow().usage(1).1, (0, 0));
}

#[test]
fn what_a_domain_leaves_among_the_nodes_of_another_goes_with_it() {
    let (store, mut control, mut guests) = world(Limits::default(), 2);
    guests[0].write(NONE, "open", b"").unwrap();
    guests[0].set_permissions(NONE, "open", &permissions("b1")).unwrap();
    let before = (store.borrow().usage(0).0, store.borrow().usage(1).1);
    for _ in 0..20 {
        let guest = &mut guests[1];
        for n in 0..300 {
            guest.write(NONE, &format!("/local/domain/1/open/{n}/a/b"), b"").unwrap();
        }
        // What others put below its nodes isn't theirs to keep, but counts no more either.
        guests[0].write(NONE, "open/0/mine", b"").unwrap();
        control.release(2).unwrap();
        assert_eq!(guests[0].directory(NONE, "open").unwrap(), [""; 0]);
        guests[1] = settle(&store, &mut control, 2);
        assert_eq!((store.borrow().usage(0).0, store.borrow().usage(1).1), before);
    }
}

#[test]
fn sizes() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    assert_eq!(guest.write(NONE, "x", &[b'x'; 2049]), Err(Errno::ENOSPC));
    guest.write(NONE, "x", &[b'x'; 2048]).unwrap();
    control.write(NONE, "/x", &[b'x'; 4000]).unwrap();
    assert_eq!(guest.mkdir(NONE, &"x".repeat(1025)), Err(Errno::EINVAL));
    guest.mkdir(NONE, &"x".repeat(1024)).unwrap();
    assert_eq!(guest.set_permissions(NONE, "x", &permissions(&["n1"; 9].join(" "))), Err(Errno::ENOSPC));
    guest.set_permissions(NONE, "x", &permissions(&["n1"; 8].join(" "))).unwrap();
    assert_eq!(guest.set_permissions(NONE, "x", &permissions("n1 r32752")), Err(Errno::EINVAL));
}

#[test]
fn bytes_of_all_kinds_together() {
    let limits = Limits::default();
    let (store, _, mut guests) = world(limits, 1);
    let guest = &mut guests[0];
    let (count, errno) = until_refused(|n| guest.write(NONE, &format!("n{n}"), &[b'x'; 2048]));
    assert_eq!(errno, Errno::ENOSPC);
    assert!((150..limits.bytes / 2048).contains(&count), "{count}");
    assert_eq!(guest.watch(&"x".repeat(1000), &"t".repeat(1000)), Err(Errno::E2BIG));
    // A transaction that doesn't fit is of no use any more, but ends.
    let tx = guest.start().unwrap();
    let (_, errno) = until_refused(|n| guest.write(tx, &format!("t{n}"), &[b'x'; 2048]));
    assert_eq!(errno, Errno::ENOSPC);
    assert_eq!(guest.read(tx, "n0"), Err(Errno::ENOSPC));
    assert_eq!(guest.end(tx, true), Err(Errno::ENOSPC));
    assert!(store.borrow().usage(1).1.1 <= limits.bytes);
    guest.remove(NONE, "n0").unwrap();
    guest.write(NONE, "again", &[b'x'; 2048]).unwrap();
}

#[test]
fn watches_and_transactions() {
    let (store, _, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    let before = store.borrow().usage(1);
    assert_eq!(until_refused(|n| guest.watch("x", &format!("{n}"))), (128, Errno::E2BIG));
    guest.unwatch("x", "5").unwrap();
    guest.watch("x", "again").unwrap();
    assert_eq!(until_refused(|_| guest.start().map(drop)), (10, Errno::ENOSPC));
    guest.reset_watches().unwrap();
    assert_eq!(store.borrow().usage(1), before);
    let tx = guest.start().unwrap();
    let (count, errno) = until_refused(|n| {
        guest.read(tx, &format!("n{n}")).map(drop).or(Ok(())).and_then(|()| {
            // A read of nothing is answered so; the limit is met by what was touched.
            if guest.read(tx, "n0") == Err(Errno::ENOSPC) { Err(Errno::ENOSPC) } else { Ok(()) }
        })
    });
    assert_eq!(errno, Errno::ENOSPC);
    assert!((1000..=1024).contains(&count), "{count}");
    guest.end(tx, false).unwrap();
    assert_eq!(store.borrow().usage(1), before);
}

#[test]
fn events_that_nobody_fetches_are_merged_and_none_is_lost() {
    let limits = Limits { nodes: usize::MAX, bytes: usize::MAX, ..Limits::default() };
    let (store, mut control, mut guests) = world(limits, 1);
    let guest = &mut guests[0];
    guest.watch("a", "a").unwrap();
    guest.watch("b", "b").unwrap();
    guest.events();
    for _ in 0..100 {
        control.write(NONE, "/local/domain/1/a/same", b"").unwrap();
    }
    assert_eq!(guest.events(), [(String::from("a/same"), String::from("a"))]);
    for n in 0..10_000 {
        control.write(NONE, &format!("/local/domain/1/a/{n}"), b"").unwrap();
    }
    control.write(NONE, "/local/domain/1/b/x", b"").unwrap();
    assert_eq!(store.borrow().waiting(guest.id), limits.events + 2);
    let events = guest.events();
    assert_eq!(events[limits.events].0, "a");
    assert_eq!(events[limits.events + 1].0, "b");
    control.write(NONE, "/local/domain/1/b/x", b"").unwrap();
    assert_eq!(guest.events(), [(String::from("b/x"), String::from("b"))]);
}

#[test]
fn deep_trees_are_no_danger() {
    // Nothing recurses, so this passes on a small stack.
    let act = || {
        let limits = Limits { nodes: usize::MAX, bytes: usize::MAX, ..Limits::default() };
        let (store, mut control, mut guests) = world(limits, 1);
        let deep = ["/deep"; 1].concat() + &"/d".repeat(1500);
        control.write(NONE, &deep, b"").unwrap();
        control.watch(&deep, "t").unwrap();
        guests[0].write(NONE, &["d"; 512].join("/"), b"").unwrap();
        let tx = control.start().unwrap();
        control.read(tx, &deep).unwrap();
        control.remove(tx, "/deep").unwrap();
        control.end(tx, true).unwrap();
        assert_eq!(control.read(NONE, &deep), Err(Errno::ENOENT));
        drop((control, guests));
        drop(store);
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(act).unwrap().join().unwrap();
}
