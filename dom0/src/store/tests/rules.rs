//! What the protocol promises, case by case.

use super::*;
use pv_abi::io::xenstore::*;
use std::format;
use std::string::{String, ToString};

const NONE: Tx = Tx::NONE;

#[test]
fn nodes_come_with_those_above_and_go_with_those_below() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    guest.write(NONE, "a/b/c", b"value\0\xff").unwrap();
    assert_eq!(control.read(NONE, "/local/domain/1/a/b/c").unwrap(), b"value\0\xff");
    assert_eq!(guest.read(NONE, "a/b").unwrap(), b"");
    assert_eq!(guest.directory(NONE, "a").unwrap(), ["b"]);
    guest.mkdir(NONE, "a/b/c").unwrap();
    assert_eq!(guest.read(NONE, "a/b/c").unwrap(), b"value\0\xff");
    guest.remove(NONE, "a/b").unwrap();
    assert_eq!(guest.read(NONE, "a/b/c"), Err(Errno::ENOENT));
    assert_eq!(guest.remove(NONE, "a/b"), Ok(()));
    assert_eq!(guest.remove(NONE, "a/b/c"), Err(Errno::ENOENT));
    assert_eq!(control.remove(NONE, "/"), Err(Errno::EINVAL));
    assert_eq!(guest.write(NONE, "a//b", b""), Err(Errno::EINVAL));
    assert_eq!(guest.read(NONE, "@releaseDomain"), Err(Errno::EINVAL));
}

#[test]
fn permissions_hold() {
    let (_, mut control, mut guests) = world(Limits::default(), 3);
    let [one, two, three] = &mut guests[..] else { unreachable!() };
    one.write(NONE, "x", b"1").unwrap();
    let path = "/local/domain/1/x";
    assert_eq!(one.permissions(NONE, "x").unwrap(), permissions("n1"));
    assert_eq!(two.read(NONE, path), Err(Errno::EACCES));
    // Not even whether there is a node.
    assert_eq!(two.read(NONE, "/local/domain/1/none"), Err(Errno::EACCES));
    assert_eq!(two.read(NONE, "/local"), Err(Errno::EACCES));
    one.set_permissions(NONE, "x", &permissions("r1 b2")).unwrap();
    two.write(NONE, path, b"2").unwrap();
    assert_eq!(three.read(NONE, path).unwrap(), b"2");
    assert_eq!(three.write(NONE, path, b"3"), Err(Errno::EACCES));
    assert_eq!(three.remove(NONE, path), Err(Errno::EACCES));
    // Nodes belong to whoever makes them.
    two.write(NONE, "/local/domain/1/x/y", b"").unwrap();
    assert_eq!(two.permissions(NONE, "/local/domain/1/x/y").unwrap(), permissions("r2 b2"));
    control.write(NONE, "/local/domain/1/x/z", b"").unwrap();
    assert_eq!(one.permissions(NONE, "x/z").unwrap(), permissions("r1 b2"));
    // Only the owner sets them, and can't give the node away.
    assert_eq!(two.set_permissions(NONE, path, &permissions("b2")), Err(Errno::EACCES));
    assert_eq!(one.set_permissions(NONE, "x", &permissions("b2")), Err(Errno::EPERM));
    assert_eq!(one.request(XS_SET_PERMS, NONE, &[b"x\0"]), Err(Errno::EINVAL));
    assert_eq!(one.request(XS_SET_PERMS, NONE, &[b"x\0q1\0"]), Err(Errno::EINVAL));
    control.set_permissions(NONE, path, &permissions("n2")).unwrap();
    assert_eq!(one.read(NONE, "x"), Err(Errno::EACCES));
}

#[test]
fn a_transaction_is_seen_by_nobody_else_until_its_end() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    guest.write(NONE, "x/y", b"old").unwrap();
    let tx = guest.start().unwrap();
    guest.write(tx, "x/y", b"new").unwrap();
    guest.write(tx, "x/z/w", b"").unwrap();
    assert_eq!(guest.read(tx, "x/y").unwrap(), b"new");
    assert_eq!(guest.directory(tx, "x").unwrap(), ["y", "z"]);
    assert_eq!(guest.directory(NONE, "x").unwrap(), ["y"]);
    guest.remove(tx, "x").unwrap();
    assert_eq!(guest.read(tx, "x/y"), Err(Errno::ENOENT));
    guest.mkdir(tx, "x/v").unwrap();
    assert_eq!(guest.directory(tx, "x").unwrap(), ["v"]);
    assert_eq!(guest.read(tx, "x/y"), Err(Errno::ENOENT));
    guest.end(tx, true).unwrap();
    assert_eq!(control.directory(NONE, "/local/domain/1/x").unwrap(), ["v"]);
    assert_eq!(guest.end(tx, true), Err(Errno::ENOENT));
    assert_eq!(guest.read(tx, "x"), Err(Errno::ENOENT));
    let dropped = guest.start().unwrap();
    guest.write(dropped, "x", b"lost").unwrap();
    guest.end(dropped, false).unwrap();
    assert_eq!(guest.read(NONE, "x").unwrap(), b"");
    assert_eq!(guest.request(XS_TRANSACTION_START, dropped, &[b"\0"]), Err(Errno::EBUSY));
    assert_eq!(guest.end(NONE, true), Err(Errno::ENOENT));
}

#[test]
fn a_transaction_fails_if_and_only_if_what_it_saw_has_changed() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    for path in ["read", "listed/a", "other", "gone/a", "seen"] {
        guest.write(NONE, path, b"").unwrap();
    }
    let mut attempt = |interference: Option<&str>| {
        let tx = guest.start().unwrap();
        guest.read(tx, "read").unwrap();
        guest.directory(tx, "listed").unwrap();
        assert_eq!(guest.read(tx, "missing"), Err(Errno::ENOENT));
        guest.write(tx, "new/b", b"").unwrap();
        guest.remove(tx, "gone").unwrap();
        let changed = interference.map(|path| ["/local/domain/1/", path].concat());
        if let Some(path) = &changed {
            control.write(NONE, path, b"2").unwrap();
        }
        let result = guest.end(tx, true);
        for path in ["missing", "listed/b", "new"] {
            guest.remove(NONE, path).unwrap();
        }
        guest.write(NONE, "gone/a", b"").unwrap();
        result
    };
    for harmless in [None, Some("other"), Some("read/below"), Some("another"), Some("listed/a")] {
        assert_eq!(attempt(harmless), Ok(()), "{harmless:?}");
    }
    for path in ["read", "listed/b", "missing", "new", "new/b", "gone/b", "gone/a", "missing/x"] {
        assert_eq!(attempt(Some(path)), Err(Errno::EAGAIN), "{path}");
    }
}

#[test]
fn the_retry_helper_tries_again() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    guests[0].write(NONE, "n", b"1").unwrap();
    let mut interferences = 3;
    let result = guests[0].transaction(|guest, tx| {
        let n: u32 = guest.read_number(tx, "n")?;
        if interferences > 0 {
            interferences -= 1;
            control.write_text(NONE, "/local/domain/1/n", n + 10)?;
        }
        guest.write_text(tx, "n", n + 1)?;
        Ok(n)
    });
    assert_eq!(result, Ok(31));
    assert_eq!(guests[0].read(NONE, "n").unwrap(), b"32");
    assert_eq!(guests[0].transaction(|_, _| Err::<(), _>(Errno::EROFS)), Err(Errno::EROFS));
    let forever = guests[0].transaction(|guest, tx| {
        guest.read(tx, "n")?;
        control.write(NONE, "/local/domain/1/n", b"0")
    });
    assert_eq!(forever, Err(Errno::EAGAIN));
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(path, token)| (path.to_string(), token.to_string())).collect()
}

#[test]
fn watches_fire_for_what_they_cover() {
    let (_, mut control, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    guest.watch("a", "rel").unwrap();
    guest.watch("/local/domain/1/a/b", "abs").unwrap();
    assert_eq!(guest.events(), pairs(&[("a", "rel"), ("/local/domain/1/a/b", "abs")]));
    guest.write(NONE, "a/b/c", b"").unwrap();
    assert_eq!(guest.events(), pairs(&[("a/b/c", "rel"), ("/local/domain/1/a/b/c", "abs")]));
    guest.mkdir(NONE, "a/b").unwrap();
    guest.read(NONE, "a/b").unwrap();
    guest.write(NONE, "aa", b"").unwrap();
    assert_eq!(guest.events(), []);
    control.set_permissions(NONE, "/local/domain/1/a", &permissions("n1 r0")).unwrap();
    assert_eq!(guest.events(), pairs(&[("a", "rel")]));
    // A removal above is one of the watched node itself.
    guest.remove(NONE, "a").unwrap();
    assert_eq!(guest.events(), pairs(&[("a", "rel"), ("/local/domain/1/a/b", "abs")]));
    guest.mkdir(NONE, "a").unwrap();
    guest.events();
    guest.remove(NONE, "a").unwrap();
    // There was no a/b.
    assert_eq!(guest.events(), pairs(&[("a", "rel")]));
    assert_eq!(guest.watch("/local/domain/1/a", "rel"), Err(Errno::EEXIST));
    assert_eq!(guest.unwatch("a", "other"), Err(Errno::ENOENT));
    guest.unwatch("a", "rel").unwrap();
    guest.write(NONE, "a", b"").unwrap();
    assert_eq!(guest.events(), []);
    guest.reset_watches().unwrap();
    guest.write(NONE, "a/b", b"").unwrap();
    assert_eq!(guest.events(), []);
}

#[test]
fn watches_fire_for_a_transaction_only_when_it_is_made() {
    let (_, _, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    guest.write(NONE, "a/old", b"").unwrap();
    guest.watch("a", "t").unwrap();
    guest.events();
    let tx = guest.start().unwrap();
    guest.write(tx, "a/x", b"").unwrap();
    guest.write(tx, "a/short", b"").unwrap();
    guest.remove(tx, "a/short").unwrap();
    guest.remove(tx, "a/old").unwrap();
    assert_eq!(guest.events(), []);
    guest.end(tx, true).unwrap();
    assert_eq!(guest.events(), pairs(&[("a/x", "t"), ("a/old", "t")]));
}

#[test]
fn events_are_for_those_who_may_read() {
    let (_, mut control, mut guests) = world(Limits::default(), 2);
    let [one, two] = &mut guests[..] else { unreachable!() };
    two.watch("/local/domain/1", "t").unwrap();
    two.watch("/local/domain/1/x/y", "deep").unwrap();
    two.events();
    one.write(NONE, "x", b"secret").unwrap();
    assert_eq!(two.events(), []);
    one.set_permissions(NONE, "x", &permissions("n1 r2")).unwrap();
    assert_eq!(two.events(), pairs(&[("/local/domain/1/x", "t")]));
    one.write(NONE, "x/y", b"").unwrap();
    assert_eq!(two.events(), pairs(&[("/local/domain/1/x/y", "t"), ("/local/domain/1/x/y", "deep")]));
    one.set_permissions(NONE, "x", &permissions("n1")).unwrap();
    assert_eq!(two.events(), pairs(&[("/local/domain/1/x", "t")]));
    // The node below is still readable, so its end is told.
    control.remove(NONE, "/local/domain/1/x").unwrap();
    assert_eq!(two.events(), pairs(&[("/local/domain/1/x/y", "deep")]));
}

#[test]
fn domains_are_announced_to_those_allowed() {
    let (store, mut control, mut guests) = world(Limits::default(), 1);
    for path in ["@introduceDomain", "@releaseDomain"] {
        control.watch(path, "c").unwrap();
        guests[0].watch(path, "g").unwrap();
    }
    let mut drain = || core::iter::from_fn(|| control.event()).map(|event| event.path).collect::<Vec<_>>();
    assert_eq!(drain(), ["@introduceDomain", "@releaseDomain"]);
    guests[0].events();
    let two = Guest::introduce(&store, 2);
    assert_eq!(drain(), ["@introduceDomain"]);
    assert_eq!(guests[0].events(), []);
    assert_eq!(guests[0].permissions(NONE, "@releaseDomain"), Err(Errno::EINVAL));
    control.set_permissions(NONE, "@releaseDomain", &permissions("n0 r1")).unwrap();
    assert_eq!(control.permissions(NONE, "@releaseDomain").unwrap(), permissions("n0 r1"));
    assert_eq!(guests[0].release(2), Err(Errno::EACCES));
    assert_eq!((control.is_introduced(2), control.is_introduced(0)), (Ok(true), Ok(true)));
    control.release(2).unwrap();
    assert_eq!((control.is_introduced(2), control.release(2)), (Ok(false), Err(Errno::ENOENT)));
    assert_eq!(guests[0].events(), pairs(&[("@releaseDomain", "g")]));
    assert!(!store.borrow().is_connected(two.id));
    assert_eq!(control.domain_path(77).unwrap(), "/local/domain/77");
}

#[test]
fn domains_are_introduced_and_released_by_requests() {
    use Call::{Close, Open, Rebind};
    let calls = Calls::default();
    let store = with_rings(Limits::default(), |_| Box::new(calls.clone()));
    let mut control = Connection::new(&store);
    control.watch("@introduceDomain", "w").unwrap();
    control.event().unwrap();
    let announced = |control: &mut Connection| core::iter::from_fn(|| control.event()).count();

    for (domain, port) in [(0, 5), (0x7ff0, 5), (0x7fff, 5), (3, 0)] {
        assert_eq!(control.introduce(domain, 0x1234, port), Err(Errno::EINVAL), "{domain} {port}");
    }
    for payload in ["", "3\0", "3\x001\0", "3\x001\x00x\0", "3\x00-1\x005\0", "65536\x001\x005\0"] {
        assert_eq!(control.request(XS_INTRODUCE, NONE, &[payload.as_bytes()]), Err(Errno::EINVAL), "{payload:?}");
    }
    assert_eq!(calls.made(), []);
    // What the hypervisor refuses leaves nothing.
    assert_eq!(control.introduce(3, 0, 5), Err(Errno::ESRCH));
    assert_eq!(store.borrow().connection_of(3), None);
    assert_eq!(control.is_introduced(3), Ok(false));
    assert_eq!((calls.made(), announced(&mut control)), ([Open(3, 0, 5)].into(), 0));

    // With a reserved string behind.
    control.request(XS_INTRODUCE, NONE, &[b"3\x004660\x005\0\0"]).unwrap();
    assert_eq!((control.is_introduced(3), announced(&mut control)), (Ok(true), 1));
    let mut guest = Guest { store: store.clone(), id: store.borrow().connection_of(3).unwrap() };
    assert_eq!(guest.domain_path(3).unwrap(), "/local/domain/3");
    // Once more: a port, and no connection.
    assert_eq!(control.introduce(3, 77, 6), Ok(()));
    assert_eq!(control.introduce(3, 77, 99), Err(Errno::EINVAL));
    assert_eq!(store.borrow().connection_of(3), Some(guest.id));
    assert_eq!(announced(&mut control), 0);
    assert_eq!(calls.made(), [Open(3, 0x1234, 5), Rebind(3, 6), Rebind(3, 99)]);

    // Nobody else may, whatever it says.
    for payload in [&b"4\x001\x005\0"[..], b"3\0", b""] {
        for kind in [XS_INTRODUCE, XS_RELEASE] {
            assert_eq!(guest.request(kind, NONE, &[payload]), Err(Errno::EACCES));
        }
    }
    assert_eq!(control.request(XS_RELEASE, NONE, &[b"x\0"]), Err(Errno::EINVAL));
    assert_eq!(control.release(3), Ok(()));
    assert_eq!((control.release(3), control.release(4)), (Err(Errno::ENOENT), Err(Errno::ENOENT)));
    assert_eq!(guest.domain_path(3), Err(Errno::EIO));
    assert_eq!((control.is_introduced(3), calls.made()), (Ok(false), [Close(3)].into()));
}

#[test]
fn a_released_domain_leaves_nothing_to_the_next_of_its_number() {
    let (store, mut control, mut guests) = world(Limits::default(), 2);
    guests[0].write(NONE, "x", b"").unwrap();
    guests[0].set_permissions(NONE, "x", &permissions("n1 b2")).unwrap();
    guests[0].write(NONE, "/all/left", b"").unwrap();
    control.write(NONE, "/all/kept", b"").unwrap();
    control.set_permissions(NONE, "/all/kept", &permissions("b0 r1")).unwrap();
    let tx = guests[0].start().unwrap();
    guests[0].write(tx, "y", b"").unwrap();
    guests[0].watch("x", "t").unwrap();
    assert!(store.borrow().usage(1).1.0 > 0);
    control.release(1).unwrap();
    control.release(2).unwrap();
    assert_eq!(store.borrow().usage(1).1, (0, 0));
    assert_eq!(guests[0].read(NONE, "x"), Err(Errno::EIO));
    let mut again = Guest::introduce(&store, 1);
    let mut other = Guest::introduce(&store, 2);
    assert_eq!(again.read(NONE, "x"), Err(Errno::EACCES));
    assert_eq!(other.read(NONE, "/local/domain/1/x"), Err(Errno::EACCES));
    assert_eq!(again.end(tx, true), Err(Errno::ENOENT));
    assert_eq!(again.events(), []);
    for gone in ["/local/domain/1", "/local/domain/2", "/all/left"] {
        assert_eq!(control.read(NONE, gone), Err(Errno::ENOENT));
    }
    assert_eq!(control.read(NONE, "/local/domain"), Ok(Vec::new()));
    assert_eq!(control.permissions(NONE, "/all/kept").unwrap(), permissions("b0"));
    assert_eq!(store.borrow().usage(1).1, (0, 0));
}

#[test]
fn a_permission_given_before_the_introduction_counts() {
    let (store, mut control, _) = world(Limits::default(), 0);
    settle(&store, &mut control, 5);
    control.release(5).unwrap();
    let mut guest = settle(&store, &mut control, 5);
    guest.write(NONE, "x", b"mine").unwrap();
    assert_eq!(guest.read_text(NONE, "x").unwrap(), "mine");
}

#[test]
fn long_directories_come_in_parts() {
    let (_, mut control, _) = world(Limits::default(), 0);
    let names: Vec<String> = (0..1500).map(|n| format!("child-{n:04}")).collect();
    for name in &names {
        control.write(NONE, &["/big/", name].concat(), b"").unwrap();
    }
    assert_eq!(control.request(XS_DIRECTORY, NONE, &[b"/big\0"]), Err(Errno::E2BIG));
    assert_eq!(control.directory(NONE, "/big").unwrap(), names);
    let part =
        |control: &mut Connection, offset: &[u8]| control.request(XS_DIRECTORY_PART, NONE, &[b"/big\0", offset, b"\0"]);
    let first = part(&mut control, b"0").unwrap();
    assert!(first.len() <= 4096 && first.ends_with(b"\0") && !first.ends_with(b"\0\0"));
    assert_eq!(part(&mut control, b"0").unwrap(), first);
    control.write(NONE, "/big/another", b"").unwrap();
    assert_ne!(part(&mut control, b"0").unwrap()[..5], first[..5]);
    assert_eq!(part(&mut control, b"99999999"), Err(Errno::EINVAL));
    assert_eq!(part(&mut control, b"x"), Err(Errno::EINVAL));
    control.mkdir(NONE, "/empty").unwrap();
    assert!(control.request(XS_DIRECTORY_PART, NONE, &[b"/empty\x00\x30\x30\x00"]).unwrap().ends_with(b"\0\0"));
}

#[test]
fn requests_of_no_known_form_are_refused() {
    let (_, _, mut guests) = world(Limits::default(), 1);
    let guest = &mut guests[0];
    for kind in [XS_CONTROL, XS_RESUME, XS_SET_TARGET, XS_WATCH_EVENT, XS_ERROR, 20, 23, 4711, XS_INVALID] {
        assert_eq!(guest.request(kind, NONE, &[b"x\0"]), Err(Errno::ENOSYS), "{kind}");
    }
    for kind in [XS_READ, XS_WRITE, XS_MKDIR, XS_RM, XS_DIRECTORY, XS_GET_PERMS, XS_WATCH, XS_UNWATCH] {
        assert_eq!(guest.request(kind, NONE, &[b""]), Err(Errno::EINVAL), "{kind}");
        assert_eq!(guest.request(kind, NONE, &[b"x"]), Err(Errno::EINVAL), "{kind}");
    }
    assert_eq!(guest.request(XS_READ, NONE, &[b"x\0y\0"]), Err(Errno::EINVAL));
    assert_eq!(guest.request(XS_TRANSACTION_END, NONE, &[b"X\0"]), Err(Errno::EINVAL));
    assert_eq!(guest.request(XS_IS_DOMAIN_INTRODUCED, NONE, &[b"99999\0"]), Err(Errno::EINVAL));
    // Reserved strings behind a token.
    assert_eq!(guest.request(XS_WATCH, NONE, &[b"x\0t\0\0"]), Ok(b"OK\0".to_vec()));
    assert_eq!(guest.events(), pairs(&[("x", "t")]));
}

#[test]
fn a_connection_wakes_its_user_once() {
    let (store, mut control, _) = world(Limits::default(), 0);
    let mut other = Connection::new(&store);
    let woken = Rc::new(core::cell::Cell::new(0));
    let count = woken.clone();
    other.on_event(move || count.set(count.get() + 1));
    other.watch("/all", "t").unwrap();
    control.write(NONE, "/all/x", b"").unwrap();
    assert_eq!(woken.get(), 1);
    while other.event().is_some() {}
    control.write(NONE, "/all/x", b"").unwrap();
    assert_eq!(woken.get(), 2);
    // And once more when it ends.
    drop(other);
    control.write(NONE, "/all/x", b"").unwrap();
    assert_eq!(woken.get(), 3);
}
