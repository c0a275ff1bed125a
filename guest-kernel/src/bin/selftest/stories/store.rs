//! Told behind dom0: XenStore over the domain's own ring, used, flooded and lied to.

use crate::check::{Ending, Told, equal, fail, holds};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use guest_kernel::start::start_info;
use guest_kernel::store::ring::{End, Stream};
use guest_kernel::store::wire::{Message, Permission, Rights};
use guest_kernel::store::{Bus, Connection, Event, Tx};
use guest_kernel::{hypercall, println, time};
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::*;

const NONE: Tx = Tx::NONE;
/// How long the neighbour of a hostile domain looks after its own, in nanoseconds.
const WATCHED: u64 = 4_000_000_000;

fn open() -> Result<Connection, Ending> {
    Connection::open(start_info()).ok_or(Ending::Fail("there is no ring to XenStore".into()))
}

/// Ends the story if a request failed.
fn well<T>(what: &str, result: Result<T, Errno>) -> Result<T, Ending> {
    result.map_err(|errno| Ending::Fail(format!("{what}: {errno:?}")))
}

/// A deadline from now on.
fn within(nanoseconds: u64) -> u64 {
    time::now().unwrap_or(0) + nanoseconds
}

/// The paths of `count` events; fewer if they don't come.
fn events(store: &mut Connection, count: usize) -> Vec<String> {
    let deadline = within(60_000_000_000);
    (0..count).map_while(|_| store.wait(deadline)).map(|event: Event| event.path).collect()
}

/// Each request once, and what it is to answer.
pub fn requests() -> Told {
    let mut store = open()?;
    let me: u16 = well("domid", store.read_number(NONE, "domid"))?;
    equal("the home", store.domain_path(me), Ok(format!("/local/domain/{me}")))?;
    equal("this domain", store.is_introduced(me), Ok(true))?;
    equal("no domain", store.is_introduced(999), Ok(false))?;
    equal("the node of this ring's port", store.read_number(NONE, "store/port"), Ok(start_info().store_evtchn))?;

    // Longer than the ring, in both directions.
    let long = [b'v'; 2048];
    well("a long value", store.write(NONE, "data/a/long", &long))?;
    equal("the long value", store.read(NONE, "data/a/long"), Ok(long.to_vec()))?;
    equal("one too long", store.write(NONE, "data/a/long", &[b'v'; 2049]), Err(Errno::ENOSPC))?;
    equal("one beyond the protocol", store.write(NONE, "data/a/long", &[b'v'; 5000]), Err(Errno::E2BIG))?;
    equal("no node", store.read(NONE, "data/none"), Err(Errno::ENOENT))?;
    equal("a bad path", store.read(NONE, "data//x"), Err(Errno::EINVAL))?;
    equal("a node of domain 0's", store.write(NONE, "name", b"x"), Err(Errno::EACCES))?;
    equal("a request for domain 0", store.release(me), Err(Errno::EACCES))?;
    equal("another", store.introduce(me, start_info().store_mfn, start_info().store_evtchn), Err(Errno::EACCES))?;
    equal("a request that nobody knows", store.request(4711, NONE, &[b"x\0"]), Err(Errno::ENOSYS))?;

    let names: Vec<String> = (0..300).map(|n| format!("a-name-of-some-length-{n:03}")).collect();
    for name in &names {
        well("a child", store.mkdir(NONE, &format!("data/many/{name}")))?;
    }
    equal("many children", store.directory(NONE, "data/many"), Ok(names))?;
    well("removing them", store.remove(NONE, "data/many"))?;
    equal("what is left", store.directory(NONE, "data"), Ok(Vec::from([String::from("a")])))?;

    let shared = [Permission::new(me, Rights::READ), Permission::new(0, Rights::BOTH)];
    well("permissions", store.set_permissions(NONE, "data/a", &shared))?;
    equal("the permissions", store.permissions(NONE, "data/a"), Ok(shared.to_vec()))?;
    let given = [Permission::new(0, Rights::NONE)];
    equal("giving a node away", store.set_permissions(NONE, "data/a", &given), Err(Errno::EPERM))
}

/// Watches and transactions.
pub fn watches() -> Told {
    let mut store = open()?;
    well("a watch", store.watch("data/w", "token"))?;
    equal("its first event", events(&mut store, 1), Vec::from([String::from("data/w")]))?;
    equal("the same again", store.watch("data/w", "token"), Err(Errno::EEXIST))?;
    well("a node below", store.write(NONE, "data/w/x", b"1"))?;
    let tx = well("a transaction", store.start())?;
    well("a write in it", store.write(tx, "data/w/y", b"2"))?;
    equal("a read outside", store.read(NONE, "data/w/y"), Err(Errno::ENOENT))?;
    well("a write outside", store.write(NONE, "data/w/y", b"3"))?;
    equal("its end", store.end(tx, true), Err(Errno::EAGAIN))?;
    let mut attempts = 0;
    let done = store.transaction(|store, tx| {
        attempts += 1;
        let value: u32 = store.read_number(tx, "data/w/y")?;
        if attempts == 1 {
            store.write(NONE, "data/w/y", b"10")?;
        }
        store.write_text(tx, "data/w/y", value + 1)
    });
    equal("one that is tried again", (done, attempts), (Ok(()), 2))?;
    equal("what it made", store.read_number(NONE, "data/w/y"), Ok(11))?;
    well("a removal above", store.remove(NONE, "data/w"))?;
    let told = events(&mut store, 5);
    let expected = ["data/w/x", "data/w/y", "data/w/y", "data/w/y", "data/w"];
    equal("the events", told, expected.map(String::from).to_vec())?;
    well("the watch's end", store.unwatch("data/w", "token"))?;
    well("a node that nobody watches", store.mkdir(NONE, "data/w"))?;
    equal("no event", store.event(), None)
}

/// Beside a hostile domain: its own nodes, transactions and watches work all the time.
pub fn witness() -> Told {
    let mut store = open()?;
    well("a watch", store.watch("data/n", "n"))?;
    equal("its first event", events(&mut store, 1).len(), 1)?;
    let end = within(WATCHED);
    let mut rounds = 0u32;
    while time::now().unwrap_or(u64::MAX) < end {
        rounds += 1;
        well("a write", store.write_text(NONE, "data/n", rounds))?;
        equal("its event", events(&mut store, 1).len(), 1)?;
        let read = store.transaction(|store, tx| {
            let value: u32 = store.read_number(tx, "data/n")?;
            store.write_text(tx, "data/m", value)?;
            Ok(value)
        });
        equal("a transaction", read, Ok(rounds))?;
        equal("what it wrote", store.read_number(NONE, "data/m"), Ok(rounds))?;
    }
    println!("witness: {rounds} rounds");
    holds("there are many rounds", rounds >= 20)
}

/// Does something until it is refused.
fn until_refused(what: &str, mut act: impl FnMut(u32) -> Result<(), Errno>) -> Result<(u32, Errno), Ending> {
    let refused = (0..10_000).find_map(|n| act(n).err().map(|errno| (n, errno)));
    refused.ok_or(Ending::Fail(format!("{what} without end")))
}

/// Asks for all that it can get of everything, and then for more without ever reading an answer.
pub fn flood() -> Told {
    let mut store = open()?;
    let nodes = until_refused("nodes", |n| store.write(NONE, &format!("data/{n}"), b"x"))?;
    let watches = until_refused("watches", |n| store.watch("data", &format!("{n}")))?;
    let transactions = until_refused("transactions", |_| store.start().map(drop))?;
    println!("flood: {nodes:?} nodes, {watches:?} watches, {transactions:?} transactions");
    holds("nodes have a limit", nodes.1 == Errno::ENOSPC && nodes.0 >= 100)?;
    equal("watches", watches, (128, Errno::E2BIG))?;
    equal("transactions", transactions, (10, Errno::ENOSPC))?;
    // Each of these changes fires all those watches. Nobody reads the events, nor the replies.
    let (page, port) = (store.page(), store.port());
    let mut stream = Stream::new(End::Client, page);
    let mut bytes = Vec::new();
    for n in 0..100u32 {
        let payload = format!("data/{n}\0y").into_bytes();
        let message = Message { kind: XS_WRITE, request: 1 << 20, transaction: 0, payload };
        message.encode(&mut bytes).map_err(|_| Ending::Fail("a message too long".into()))?;
    }
    let end = within(WATCHED / 2);
    let mut sent = 0;
    while time::now().unwrap_or(u64::MAX) < end {
        let rest = bytes[sent..].iter().copied();
        sent = (sent + stream.write(page, rest).map_err(|_| Ending::Fail("a bad index".into()))?) % bytes.len();
        let _ = hypercall::send(port);
    }
    println!("flood: stops");
    // It is in the middle of messages, in both directions: only a fresh start helps.
    well("a fresh start", store.reconnect())?;
    equal("an old watch", store.unwatch("data", "0"), Err(Errno::ENOENT))?;
    equal("the limit of nodes", store.write(NONE, "data/more", b"x"), Err(Errno::ENOSPC))?;
    well("a removal", store.remove(NONE, "data/0"))?;
    well("a node in its place", store.write(NONE, "data/again", b"x"))
}

/// Writes random numbers over the ring's indices and random bytes into it, and begins afresh now and then.
pub fn scribble() -> Told {
    let mut store = open()?;
    let (page, port) = (store.page(), store.port());
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u32
    };
    let end = within(WATCHED / 2);
    let (mut rounds, mut errors) = (0u32, 0u32);
    while time::now().unwrap_or(u64::MAX) < end {
        rounds += 1;
        let indices = [next(), next(), next(), next()];
        // Half of them are near what is there, where the mistakes of servers are.
        let near = if rounds.is_multiple_of(2) { 0x7ff } else { u32::MAX };
        page.set_indices(indices.map(|index| index & near));
        let mut stream = Stream::new(End::Client, page);
        let noise: [u8; 32] = core::array::from_fn(|_| next().to_le_bytes()[0] & 0x1f);
        let _ = stream.write(page, noise);
        let _ = hypercall::send(port);
        if rounds.is_multiple_of(16) {
            time::sleep(1_000_000);
            errors += u32::from(page.error.load(core::sync::atomic::Ordering::Relaxed) != XENSTORE_ERROR_NONE);
            well("a fresh start", store.reconnect())?;
            time::sleep(1_000_000);
        }
    }
    println!("scribble: {rounds} rounds, {errors} errors told");
    holds("the server told of errors", errors > 0)?;
    well("a fresh start", store.reconnect())?;
    equal("the name, after all that", store.read_text(NONE, "name"), Ok(String::from("teller")))?;
    match store.event() {
        None => Ok(()),
        Some(event) => fail(&format!("an event from before: {event:?}")),
    }
}
