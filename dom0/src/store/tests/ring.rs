//! Rings: honest clients, slow ones, and those that lie.

use super::super::link::{Line, Link, Turn};
use super::*;
use crate::contain::{Panicked, contain};
use alloc::collections::BTreeSet;
use core::cell::Cell;
use core::sync::atomic::Ordering;
use guest_kernel::store::client::Client;
use guest_kernel::store::ring::Interface;
use proptest::prelude::*;
use pv_abi::io::xenstore::*;
use std::format;

/// A page that both ends have, and a count of notifications.
#[derive(Clone)]
struct Shelf(Rc<(Interface, Cell<usize>)>);

impl Line for Shelf {
    fn page(&self) -> &Interface {
        &self.0.0
    }

    fn notify(&self) {
        self.0.1.set(self.0.1.get() + 1);
    }
}

struct Machine {
    store: Shared,
    made: Made,
    links: Vec<Link<Shelf>>,
    shelves: Vec<Shelf>,
    /// Links that want a turn though their domains sent no event.
    woken: Woken,
}

type Made = Rc<RefCell<Vec<(Link<Shelf>, Shelf)>>>;
type Woken = Rc<RefCell<BTreeSet<usize>>>;

/// Makes a link for each domain that is introduced.
struct Maker {
    store: Weak<RefCell<Store>>,
    made: Made,
    count: usize,
    woken: Woken,
}

impl Rings for Maker {
    fn open(&mut self, id: ConnectionId, _: u16, _: u64, _: u32) -> Result<Wake, Errno> {
        let shelf = Shelf(Rc::new((Interface::new(), Cell::new(0))));
        let link = Link::new(self.store.upgrade().unwrap(), id, shelf.clone());
        self.made.borrow_mut().push((link, shelf));
        let (woken, index) = (self.woken.clone(), self.count);
        self.count += 1;
        Ok(Box::new(move || _ = woken.borrow_mut().insert(index)))
    }

    fn rebind(&mut self, _: u16, _: u32) -> Result<(), Errno> {
        Ok(())
    }

    fn close(&mut self, _: u16) {}
}

/// A guest whose every wait lets the server work.
struct Ringer<'a> {
    machine: &'a mut Machine,
    domain: u16,
    client: Client,
}

impl Machine {
    fn new(domains: u16) -> (Machine, Connection) {
        let (made, woken) = (Rc::default(), Woken::default());
        let store = with_rings(Limits::default(), |store| {
            Box::new(Maker { store: store.clone(), made: Rc::clone(&made), count: 0, woken: woken.clone() })
        });
        let mut control = Connection::new(&store);
        let mut machine = Machine { store, made, links: Vec::new(), shelves: Vec::new(), woken };
        for domain in 1..=domains {
            let home = format!("/local/domain/{domain}");
            control.mkdir(Tx::NONE, &home).unwrap();
            control.set_permissions(Tx::NONE, &home, &permissions(&format!("n{domain}"))).unwrap();
            machine.introduce(domain).unwrap();
        }
        (machine, control)
    }

    fn introduce(&mut self, domain: u16) -> Result<(), Errno> {
        Connection::new(&self.store).introduce(domain, 1, 1)?;
        for (link, shelf) in self.made.take() {
            self.links.push(link);
            self.shelves.push(shelf);
        }
        Ok(())
    }

    /// A domain sent an event.
    fn wake(&mut self, domain: u16) {
        self.woken.borrow_mut().insert(usize::from(domain) - 1);
    }

    fn page(&self, domain: u16) -> &Interface {
        self.shelves[usize::from(domain) - 1].page()
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(index) = self.woken.borrow_mut().pop_first() else { return };
            if self.links[index].turn() == Turn::More {
                self.woken.borrow_mut().insert(index);
            }
        }
        panic!("work without end");
    }

    fn guest(&mut self, domain: u16) -> Ringer<'_> {
        let client = Client::new(self.page(domain));
        Ringer { machine: self, domain, client }
    }
}

impl Ringer<'_> {
    fn turn(&mut self) {
        if self.client.work(self.machine.page(self.domain)) {
            self.machine.wake(self.domain);
        }
        self.machine.settle();
        if self.client.work(self.machine.page(self.domain)) {
            self.machine.wake(self.domain);
        }
    }
}

impl Bus for Ringer<'_> {
    fn request(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        let id = self.client.submit(kind, tx, parts)?;
        for _ in 0..100 {
            self.turn();
            if let Some(reply) = self.client.reply(id) {
                return reply;
            }
        }
        panic!("no reply");
    }

    fn event(&mut self) -> Option<Event> {
        self.turn();
        self.client.event()
    }
}

#[test]
fn a_ring_carries_what_a_call_does() {
    let (mut machine, mut control) = Machine::new(2);
    control.watch("/local/domain/1/x", "c").unwrap();
    control.event();
    let mut guest = machine.guest(1);
    let long = [b'v'; 2048];
    guest.write(Tx::NONE, "x", &long).unwrap();
    assert_eq!(guest.read(Tx::NONE, "x").unwrap(), long);
    assert_eq!(control.event().unwrap().path, "/local/domain/1/x");
    assert_eq!(guest.read(Tx::NONE, "none"), Err(Errno::ENOENT));
    guest.watch("x", "t").unwrap();
    assert_eq!(guest.event(), Some(Event { path: "x".into(), token: "t".into() }));
    control.write(Tx::NONE, "/local/domain/1/x/y", b"").unwrap();
    assert_eq!(guest.event(), Some(Event { path: "x/y".into(), token: "t".into() }));
    assert_eq!(guest.event(), None);
    let names: Vec<_> = (0..400).map(|n| format!("a-long-name-{n:03}")).collect();
    for name in &names {
        guest.mkdir(Tx::NONE, &format!("d/{name}")).unwrap();
    }
    assert_eq!(guest.directory(Tx::NONE, "d").unwrap(), names);
    let result = guest.transaction(|guest, tx| guest.write(tx, "t", b"1"));
    assert_eq!(result, Ok(()));
    assert_eq!(control.read(Tx::NONE, "/local/domain/1/t").unwrap(), b"1");
}

#[test]
fn many_requests_at_once_are_answered_in_turns() {
    let (mut machine, _) = Machine::new(1);
    let mut guest = machine.guest(1);
    let ids: Vec<_> = (0..200)
        .map(|n| guest.client.submit(XS_WRITE, Tx::NONE, &[format!("n{n}").as_bytes(), b"\0v"]).unwrap())
        .collect();
    for _ in 0..20 {
        guest.turn();
    }
    assert!(ids.into_iter().all(|id| guest.client.reply(id) == Some(Ok(b"OK\0".to_vec()))));
}

#[test]
fn who_does_not_read_holds_up_nobody_else() {
    let (mut machine, mut control) = Machine::new(2);
    let mut lazy = machine.guest(1);
    lazy.watch("x", "t").unwrap();
    // It sends a thousand requests and never looks at a reply.
    let mut client = lazy.client;
    for n in 0..1000 {
        client.submit(XS_WRITE, Tx::NONE, &[b"x/", format!("{n}").as_bytes(), b"\0v"]).unwrap();
    }
    let page = machine.shelves[0].0.clone();
    for _ in 0..50 {
        client.work(&page.0);
        // Its reads don't count: the responses' consumer index goes back to where it was.
        let _ = client.event();
        machine.wake(1);
        machine.settle();
        control.write(Tx::NONE, "/local/domain/1/x", b"again").unwrap();
        let mut other = machine.guest(2);
        other.write(Tx::NONE, "y", b"").unwrap();
    }
    drop(client);
    for n in 0..2000 {
        control.write(Tx::NONE, &format!("/local/domain/1/x/{n}"), b"").unwrap();
        machine.settle();
    }
    assert!(machine.guest(2).read(Tx::NONE, "y").is_ok());
}

#[test]
fn lies_end_one_connection_which_may_begin_afresh() {
    let (mut machine, mut control) = Machine::new(2);
    machine.guest(1).watch("x", "t").unwrap();
    let tx = machine.guest(1).start().unwrap();
    for (indices, error) in [([0, 1 << 31, 0, 0], XENSTORE_ERROR_RINGIDX), ([0, 0, 1 << 31, 0], XENSTORE_ERROR_RINGIDX)]
    {
        machine.page(1).set_indices(indices);
        machine.wake(1);
        let before = machine.shelves[0].0.1.get();
        machine.settle();
        assert_eq!(machine.page(1).error.load(Ordering::Relaxed), error);
        assert_eq!(machine.shelves[0].0.1.get(), before + 1);
        // Nothing more is read or written.
        machine.wake(1);
        control.write(Tx::NONE, "/local/domain/1/x", b"").unwrap();
        machine.settle();
        assert_eq!(machine.shelves[0].0.1.get(), before + 1);
        machine.guest(2).write(Tx::NONE, "y", b"").unwrap();

        let mut guest = machine.guest(1);
        let page = guest.machine.shelves[0].clone();
        assert!(guest.client.reconnect(page.page()));
        guest.machine.wake(1);
        assert_eq!(guest.end(tx, true), Err(Errno::ENOENT));
        guest.write(Tx::NONE, "x", b"new").unwrap();
        assert_eq!(guest.event(), None);
        assert_eq!(page.page().error.load(Ordering::Relaxed), XENSTORE_ERROR_NONE);
    }
}

#[test]
fn a_message_that_is_too_long_is_a_breach_of_the_protocol() {
    let (mut machine, _) = Machine::new(1);
    let header = SockMsg { kind: XS_WRITE, len: 4097, ..SockMsg::default() };
    let page = machine.shelves[0].clone();
    let mut stream = guest_kernel::store::ring::Stream::new(guest_kernel::store::ring::End::Client, page.page());
    stream.write(page.page(), zerocopy::IntoBytes::as_bytes(&header).iter().copied()).unwrap();
    machine.wake(1);
    machine.settle();
    assert_eq!(page.page().error.load(Ordering::Relaxed), XENSTORE_ERROR_PROTO);
}

#[test]
fn a_released_domain_has_no_connection_any_more() {
    let (mut machine, mut control) = Machine::new(2);
    machine.guest(1).write(Tx::NONE, "x", b"").unwrap();
    control.release(1).unwrap();
    machine.settle();
    assert_eq!(machine.links[0].turn(), Turn::Gone);
    assert_eq!(machine.introduce(1), Ok(()));
    assert_eq!(machine.introduce(1), Ok(()));
    assert_eq!((machine.links.len(), machine.links[2].turn()), (3, Turn::Wait));
}

proptest! {
    #[test]
    fn arbitrary_bytes_and_indices_harm_nobody_else(
        steps in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300).prop_map(Hostile::Bytes),
                (0..24u32, any::<u32>(), 0..9u32, proptest::collection::vec(any::<u8>(), 0..80))
                    .prop_map(|(kind, id, tx, payload)| Hostile::Message(kind, id, tx, payload)),
                any::<[u32; 4]>().prop_map(Hostile::Indices),
                any::<u32>().prop_map(Hostile::Connection),
                Just(Hostile::Reconnect),
            ],
            1..40,
        ),
    ) {
        let (mut machine, mut control) = Machine::new(2);
        let page = machine.shelves[0].clone();
        for step in steps {
            let mut stream = guest_kernel::store::ring::Stream::new(guest_kernel::store::ring::End::Client, page.page());
            match step {
                Hostile::Bytes(bytes) => _ = stream.write(page.page(), bytes),
                Hostile::Message(kind, request, transaction, payload) => {
                    let mut bytes = Vec::new();
                    let message = guest_kernel::store::wire::Message { kind, request, transaction, payload };
                    message.encode(&mut bytes).unwrap();
                    let _ = stream.write(page.page(), bytes);
                }
                Hostile::Indices(indices) => page.page().set_indices(indices),
                Hostile::Connection(state) => page.page().connection.store(state, Ordering::Relaxed),
                Hostile::Reconnect => page.page().connection.store(XENSTORE_RECONNECT, Ordering::Relaxed),
            }
            machine.wake(1);
            machine.settle();
            let _ = stream.read(page.page(), &mut [0; 700]);
        }
        control.write(Tx::NONE, "/local/domain/2/from-0", b"1").unwrap();
        let mut other = machine.guest(2);
        prop_assert_eq!(other.read(Tx::NONE, "from-0").unwrap(), b"1");
        // It may begin afresh whatever it did.
        let mut again = machine.guest(1);
        again.client.reconnect(page.page());
        again.machine.wake(1);
        prop_assert!(again.read(Tx::NONE, "none").is_err());
        prop_assert_eq!(again.domain_path(3).unwrap(), "/local/domain/3");
    }
}

/// A link that panics closes; its domain may begin afresh, and the others don't notice.
#[test]
fn a_panic_closes_the_link() {
    let (mut machine, _control) = Machine::new(2);
    machine.guest(1).write(Tx::NONE, "name", b"value").unwrap();
    machine.links[0].doom();
    let mut client = Client::new(machine.page(1));
    client.submit(XS_READ, Tx::NONE, &[b"name\0"]).unwrap();
    client.work(machine.page(1));
    let link = &mut machine.links[0];
    assert_eq!(contain(|| link.turn()), Err(Panicked("asked for at the prompt".into())));
    link.cut_off();
    assert_eq!(machine.page(1).error.load(Ordering::Relaxed), XENSTORE_ERROR_COMM);
    assert_eq!(machine.links[0].turn(), Turn::Wait);
    assert_eq!(machine.guest(2).domain_path(3).unwrap(), "/local/domain/3");
    let mut again = machine.guest(1);
    let page = again.machine.shelves[0].clone();
    again.client.reconnect(page.page());
    again.machine.wake(1);
    assert_eq!(again.read(Tx::NONE, "name").unwrap(), b"value");
}

/// One request can be a hundred times as dear as another, and has its price.
#[test]
fn dear_requests_are_paid_for_and_end_the_turn() {
    let (mut machine, mut control) = Machine::new(1);
    for n in 0..900 {
        control.mkdir(Tx::NONE, &format!("/local/domain/1/x/{n:05}")).unwrap();
    }
    let (mut client, shelf) = (Client::new(machine.page(1)), machine.shelves[0].clone());
    let mut ask = |kind| {
        let ids = [(); 4].map(|()| client.submit(kind, Tx::NONE, &[b"x\0"]).unwrap());
        client.work(shelf.page());
        let (mut turns, before) = (0, machine.links[0].spent());
        while machine.links[0].turn() == Turn::More {
            turns += 1;
        }
        client.work(shelf.page());
        (turns, machine.links[0].spent() - before, ids.map(|id| client.reply(id).unwrap()))
    };
    // More names than fit in a reply: it is short then, but they are looked at all the same.
    let (turns, spent, replies) = ask(XS_DIRECTORY);
    assert_eq!(replies, [const { Err(Errno::E2BIG) }; 4]);
    assert!(turns == 4 && spent > 4 * 900 * 400, "{turns} turns, {spent} ns");
    let (turns, spent, replies) = ask(XS_READ);
    assert_eq!(replies, [const { Ok(Vec::new()) }; 4]);
    assert!(turns == 0 && spent < 4 * 60_000, "{turns} turns, {spent} ns");
}

#[derive(Clone, Debug)]
enum Hostile {
    Bytes(Vec<u8>),
    Message(u32, u32, u32, Vec<u8>),
    Indices([u32; 4]),
    Connection(u32),
    Reconnect,
}
