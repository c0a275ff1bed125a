//! Queues between the real frontend's rings and the switch, on memory that both share.

use super::*;
use crate::net::bridge::{PortId, Settings};
use crate::net::{Abilities, Gso, Packet, Switch, Taste};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::net::nic::Nic;
use guest_kernel::net::rings::{Pages, RX_PAGES, Rings, TX_PAGES};
use guest_kernel::net::smoltcp::iface::SocketHandle;
use guest_kernel::net::smoltcp::socket::tcp;
use guest_kernel::net::smoltcp::wire::{Ipv4Address, Ipv4Cidr};
use guest_kernel::net::stack::Stack;
use guest_kernel::net::{Mac, RxSlot, TxSlot, wire};
use guest_kernel::ring::Front;
use proptest::prelude::*;
use pv_abi::io::net::{NetTxFlags, NetifRxRequest, NetifTxRequest, NetifTxResponse};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

pub(super) type Words = Arc<[AtomicU32]>;

const GREF: u32 = 8;
const MAX_PACKET: usize = 1514;

/// A guest's granted pages, and whether it took the grants back.
#[derive(Clone)]
pub(super) struct Memory {
    pages: Rc<RefCell<Vec<[u8; 4096]>>>,
    revoked: Rc<RefCell<bool>>,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { pages: Rc::new(RefCell::new(vec![[0; 4096]; RX_PAGES + TX_PAGES])), revoked: Rc::default() }
    }

    fn with(&self, piece: Piece, copy: impl FnOnce(&mut [u8])) -> bool {
        let mut pages = self.pages.borrow_mut();
        let page = piece.gref.checked_sub(GREF).and_then(|page| pages.get_mut(page as usize));
        let Some(page) = page.filter(|_| !*self.revoked.borrow()) else { return false };
        copy(&mut page[usize::from(piece.offset)..][..piece.length]);
        true
    }
}

impl GrantCopy for Memory {
    fn copy_in(&mut self, pieces: &mut [(Piece, &mut [u8])]) -> Vec<bool> {
        pieces.iter_mut().map(|(piece, to)| self.with(*piece, |from| to.copy_from_slice(from))).collect()
    }

    fn copy_out(&mut self, pieces: &[(Piece, &[u8])]) -> Vec<bool> {
        pieces.iter().map(|(piece, from)| self.with(*piece, |to| to.copy_from_slice(from))).collect()
    }
}

impl Pages for Memory {
    fn gref(&self, page: usize) -> u32 {
        GREF + u32::try_from(page).unwrap()
    }

    fn write<T>(&mut self, page: usize, length: usize, write: impl FnOnce(&mut [u8]) -> T) -> T {
        write(&mut self.pages.borrow_mut()[page][..length])
    }

    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.pages.borrow()[page][offset..][..into.len()]);
    }
}

pub(super) fn words() -> Words {
    (0..1024).map(|_| AtomicU32::new(0)).collect()
}

struct Guest {
    rings: Rings<Words, Memory>,
    queue: Queue<Words>,
    memory: Memory,
    port: PortId,
    mac: Mac,
    groups: Groups,
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn port(switch: &mut Switch, number: u8) -> PortId {
    let settings = Settings { mac: Some(mac(number)), rate: None, learned: 0 };
    let port = switch.add(settings, Box::new(|| ()), 0).unwrap();
    let abilities = Abilities { scattered: true, blank_ipv4: true, gso_ipv4: true, ..Abilities::default() };
    switch.open(port, Taste { abilities, lanes: 1, groups: None });
    port
}

impl Guest {
    fn new(switch: &mut Switch, number: u8) -> Guest {
        let (tx, rx, memory) = (words(), words(), Memory::new());
        let mut rings = Rings::new(tx.clone(), rx.clone(), memory.clone()).unwrap();
        assert!(rings.publish_rx());
        let queue = Queue::attach(tx, rx).unwrap();
        Guest { rings, queue, memory, port: port(switch, number), mac: mac(number), groups: Groups::default() }
    }

    /// Sends a frame of which a number tells the rest. Whether there was room.
    fn send(&mut self, to: Mac, length: usize, number: u32) -> bool {
        if !self.rings.can_send().unwrap() {
            return false;
        }
        let from = self.mac;
        let _ = self.rings.send(length, |bytes| {
            bytes.copy_from_slice(&frame(from, to, length, number));
            false
        });
        true
    }

    /// A turn of the back end.
    fn turn(&mut self, switch: &mut Switch) {
        let mut pages = self.memory.clone();
        self.queue.transmit(switch, self.port, &mut self.groups, &mut pages, 0).unwrap();
        self.queue.receive(switch, self.port, 0, &mut pages).unwrap();
    }
}

fn frame(from: Mac, to: Mac, length: usize, number: u32) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &[0x99, 0x99], &number.to_le_bytes()].concat();
    frame.extend((0..).map(|at: u32| (at ^ number).to_le_bytes()[0]).take(length - frame.len()));
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// What guests send to each other arrives whole and in order, however their turns and the back end's mix; rings and
    /// inboxes are never so full here that a packet is lost.
    #[test]
    fn packets_arrive_whole_and_in_order(steps in proptest::collection::vec((0usize..2, 0u8..6, 18usize..MAX_PACKET), 1..400)) {
        let mut switch = Switch::new(1 << 20);
        let mut guests = [1, 2].map(|number| Guest::new(&mut switch, number));
        let (mut sent, mut expected) = ([0u32; 2], [vec![], vec![]]);
        for (who, what, length) in steps {
            let other = 1 - who;
            match what {
                0..=2 if expected[other].len() < 100 => {
                    let to = guests[other].mac;
                    if guests[who].send(to, length, sent[who]) {
                        expected[other].push(frame(guests[who].mac, to, length, sent[who]));
                        sent[who] += 1;
                    }
                }
                3 | 4 => guests[who].turn(&mut switch),
                _ => {
                    while let Some(packet) = guests[who].rings.receive().unwrap() {
                        prop_assert_eq!(&packet.data, &expected[who].remove(0));
                    }
                    let _ = guests[who].rings.publish_rx();
                }
            }
        }
    }
}

/// A frontend that writes slots by hand, with pages 0.. granted.
struct ByHand {
    tx: Front<Words, TxSlot, NetifTxResponse>,
    rx: Front<Words, NetifRxRequest, RxSlot>,
    queue: Queue<Words>,
    memory: Memory,
    port: PortId,
    groups: Groups,
}

impl ByHand {
    fn new(switch: &mut Switch, number: u8) -> ByHand {
        let (tx, rx) = (words(), words());
        let fronts = (Front::new(tx.clone()).unwrap(), Front::new(rx.clone()).unwrap());
        let queue = Queue::attach(tx, rx).unwrap();
        let (memory, port) = (Memory::new(), port(switch, number));
        ByHand { tx: fronts.0, rx: fronts.1, queue, memory, port, groups: Groups::default() }
    }

    fn post(&mut self, count: u16) {
        for id in 0..count {
            self.rx.push(&NetifRxRequest { id, _pad: 0, gref: GREF + u32::from(id) });
        }
        let _ = self.rx.publish();
    }

    fn transmit(&mut self, switch: &mut Switch) -> Result<Turn, Fault> {
        self.queue.transmit(switch, self.port, &mut self.groups, &mut self.memory.clone(), 0)
    }

    fn receive(&mut self, switch: &mut Switch) -> Turn {
        self.queue.receive(switch, self.port, 0, &mut self.memory.clone()).unwrap()
    }

    fn push(&mut self, request: NetifTxRequest) {
        self.tx.push(&TxSlot::request(request));
        let _ = self.tx.publish();
    }

    fn statuses(&mut self) -> Vec<i16> {
        core::iter::from_fn(|| self.tx.take().unwrap()).map(|response| response.status).collect()
    }
}

#[test]
fn a_grant_that_is_gone_costs_the_packet_and_nothing_else() {
    let mut switch = Switch::new(1 << 20);
    let (mut sender, mut receiver) = (Guest::new(&mut switch, 1), Guest::new(&mut switch, 2));
    for (number, revoked) in [(0, &sender.memory.revoked.clone()), (1, &receiver.memory.revoked.clone())] {
        assert!(sender.send(mac(2), 60, number));
        revoked.replace(true);
        sender.turn(&mut switch);
        receiver.turn(&mut switch);
        revoked.replace(false);
        assert_eq!(receiver.rings.receive(), Ok(None));
    }
    assert!(sender.send(mac(2), 60, 2));
    sender.turn(&mut switch);
    receiver.turn(&mut switch);
    assert_eq!(receiver.rings.receive().unwrap().unwrap().data, frame(mac(1), mac(2), 60, 2));
    assert_eq!(switch.counters(sender.port).unwrap().refused, 1);
    assert_eq!(switch.counters(receiver.port).unwrap().lost, 1);
}

#[test]
fn a_packet_waits_until_there_are_pages_for_all_of_it() {
    let mut switch = Switch::new(1 << 20);
    let mut guest = ByHand::new(&mut switch, 1);
    let other = port(&mut switch, 2);
    let mut large = vec![0; 9000];
    large[..14].copy_from_slice(&frame(mac(2), mac(1), 18, 0)[..14]);
    large[12..34].copy_from_slice(&[8, 0, 0x45, 0, 0x23, 0x1a, 0, 0, 0, 0, 64, 6, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    large[46] = 0x50;
    let gso = Some(Gso { network: wire::Network::Ipv4, size: 1448 });
    switch.send(other, Packet { data: large, checksum: crate::net::Checksum::Blank, gso }, 0);
    guest.post(3);
    assert_eq!(guest.receive(&mut switch), Turn::default(), "it takes four");
    guest.post(1);
    assert_eq!(guest.receive(&mut switch), Turn { notify_rx: true, ..Turn::default() });
    let ids: Vec<_> = core::iter::from_fn(|| guest.rx.take().unwrap()).map(RxSlot::as_response).collect();
    assert_eq!(ids.iter().map(|response| response.status).collect::<Vec<_>>()[2..], [4096, 808]);
    assert_eq!((ids.len(), ids[2].id, ids[3].id), (4, 2, 0));
}

#[test]
fn every_slot_is_answered_even_of_packets_that_come_in_steps() {
    let mut switch = Switch::new(1 << 20);
    let mut guest = ByHand::new(&mut switch, 1);
    let more = NetTxFlags::MORE_DATA.bits();
    guest.push(NetifTxRequest { gref: GREF, offset: 0, flags: more, id: 1, size: 100 });
    assert_eq!(guest.transmit(&mut switch), Ok(Turn::default()));
    guest.push(NetifTxRequest { gref: 5, offset: 0, flags: 0, id: 2, size: 40 });
    assert_eq!(guest.transmit(&mut switch), Ok(Turn { notify_tx: true, ..Turn::default() }));
    assert_eq!(guest.statuses(), [-1, -1], "there is no such grant");
    guest.push(NetifTxRequest { gref: GREF, offset: 4000, flags: 0, id: 1, size: 100 });
    assert_eq!(guest.transmit(&mut switch), Err(Fault::BeyondPage));
}

proptest! {
    /// A frontend may write whatever it likes wherever it likes: its neighbours' packets arrive all the same.
    #[test]
    fn lies_in_rings_hurt_nobody_else(
        steps in proptest::collection::vec((0usize..1024, 0u8..8, any::<u32>(), any::<bool>()), 1..300),
    ) {
        let mut switch = Switch::new(1 << 20);
        let mut guests = [1, 2].map(|number| Guest::new(&mut switch, number));
        let (tx, rx) = (words(), words());
        let liar = port(&mut switch, 3);
        let (mut queue, mut groups, mut memory) = (Queue::attach(tx.clone(), rx.clone()).unwrap(), Groups::default(), Memory::new());
        for (number, (word, what, value, which)) in (0..).zip(steps) {
            let ring = if which { &tx } else { &rx };
            // Small steps of the producer keep the ring alive for a while; entries look like entries.
            match what {
                0 => ring[0].store(value, Ordering::Relaxed),
                1..=3 => drop(ring[0].fetch_add(value % 5, Ordering::Relaxed)),
                4 => ring[word].store(value, Ordering::Relaxed),
                _ => ring[word].store(value & 0x00ff_000f, Ordering::Relaxed),
            }
            let outcome = queue.transmit(&mut switch, liar, &mut groups, &mut memory, 0);
            let outcome = outcome.and_then(|_| queue.receive(&mut switch, liar, 0, &mut memory));
            if outcome.is_err() {
                // As the device does: it begins anew.
                [&tx, &rx].into_iter().for_each(|ring| ring.iter().for_each(|word| word.store(0, Ordering::Relaxed)));
                queue = Queue::attach(tx.clone(), rx.clone()).unwrap();
            }
            prop_assert!(guests[0].send(mac(2), 60, number));
            guests[0].turn(&mut switch);
            guests[1].turn(&mut switch);
            let mut got = core::iter::from_fn(|| guests[1].rings.receive().unwrap()).map(|packet| packet.data);
            prop_assert!(got.any(|data| data == frame(mac(1), mac(2), 60, number)));
            drop(got);
            let _ = guests[1].rings.publish_rx();
            prop_assert!(groups.members.len() <= 64);
        }
    }
}

/// A guest with TCP/IP.
struct Host {
    nic: Nic<Words, Memory>,
    stack: Stack,
    socket: SocketHandle,
    queue: Queue<Words>,
    memory: Memory,
    port: PortId,
    groups: Groups,
}

impl Host {
    fn new(switch: &mut Switch, number: u8, blank: bool) -> Host {
        let Guest { rings, queue, memory, port, mac, groups } = Guest::new(switch, number);
        let mut nic = Nic::new(rings, blank);
        let address = Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, number), 24);
        let mut stack = Stack::with_address(mac, address, &mut nic, u64::from(number), 0);
        let socket = stack.add_tcp();
        Host { nic, stack, socket, queue, memory, port, groups }
    }

    fn turn(&mut self, switch: &mut Switch, now: u64) {
        self.stack.poll(&mut self.nic, now);
        let _ = self.nic.settle().unwrap();
        let mut pages = self.memory.clone();
        self.queue.transmit(switch, self.port, &mut self.groups, &mut pages, now).unwrap();
        self.queue.receive(switch, self.port, 0, &mut pages).unwrap();
        self.stack.poll(&mut self.nic, now);
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.stack.tcp(self.socket)
    }
}

/// A megabyte goes from one guest to another and back, whole, though now and then a grant is gone and packets are lost.
#[test]
fn tcp_goes_through_with_and_without_blank_checksums() {
    const TOTAL: usize = 1 << 20;
    let byte = |at: usize| (at ^ at >> 8 ^ at >> 16).to_le_bytes()[0];
    for (a_blank, b_blank, loss) in [(true, true, 0), (false, true, 0), (true, false, 97), (false, false, 31)] {
        let mut switch = Switch::new(1 << 20);
        let mut hosts = [Host::new(&mut switch, 1, a_blank), Host::new(&mut switch, 2, b_blank)];
        hosts[1].tcp().listen(7).unwrap();
        let [a, _] = &mut hosts;
        assert!(a.stack.connect(a.socket, Ipv4Address::new(10, 0, 0, 2), 7, 50_000));
        let (mut sent, mut got, mut step) = (0, 0, 0u64);
        while got < TOTAL {
            step += 1;
            assert!(step < 1_000_000, "stuck at {sent} sent and {got} received");
            let [a, b] = &mut hosts;
            if a.tcp().can_send() {
                let mut chunk = [0; 10_000];
                let length = chunk.len().min(TOTAL - sent);
                chunk.iter_mut().zip(sent..).for_each(|(to, at)| *to = byte(at));
                sent += a.tcp().send_slice(&chunk[..length]).unwrap();
            }
            if b.tcp().can_recv() && b.tcp().can_send() {
                let room = b.tcp().send_capacity() - b.tcp().send_queue();
                let mut chunk = vec![0; room];
                let length = b.tcp().recv_slice(&mut chunk).unwrap();
                assert_eq!(b.tcp().send_slice(&chunk[..length]), Ok(length));
            }
            if a.tcp().can_recv() {
                let mut chunk = [0; 10_000];
                let length = a.tcp().recv_slice(&mut chunk).unwrap();
                assert!(chunk[..length].iter().zip(got..).all(|(found, at)| *found == byte(at)));
                got += length;
            }
            let lost = loss != 0 && step % loss == 0;
            hosts.iter().for_each(|host| *host.memory.revoked.borrow_mut() = lost);
            hosts.iter_mut().for_each(|host| host.turn(&mut switch, step * 1_000_000));
        }
        assert!(hosts.iter().all(|host| host.nic.spoiled() == 0));
    }
}
