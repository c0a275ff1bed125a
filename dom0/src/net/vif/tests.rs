//! Queues between the real frontend's rings and the switch, on memory that both share.

use super::*;
use crate::net::bridge::{PortId, Settings};
use crate::net::{Abilities, Gso, Packet, Switch, Taste};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::net::rings::{Pages, RX_PAGES, Rings, TX_PAGES};
use guest_kernel::net::{Mac, RxSlot, TxSlot, wire};
use guest_kernel::ring::Front;
use proptest::prelude::*;
use pv_abi::io::net::{NetTxFlags, NetifRxRequest, NetifTxRequest, NetifTxResponse};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

type Words = Arc<[AtomicU32]>;

const GREF: u32 = 8;
const MAX_PACKET: usize = 1514;

/// A guest's granted pages, and whether it took the grants back.
#[derive(Clone)]
struct Memory {
    pages: Rc<RefCell<Vec<[u8; 4096]>>>,
    revoked: Rc<RefCell<bool>>,
}

impl Memory {
    fn new() -> Memory {
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

/// The guest's side: it can't lend what others see, so it writes into a copy.
struct Mine(Memory, Box<[u8; 4096]>, Option<(usize, usize)>);

impl Mine {
    fn flush(&mut self) {
        if let Some((page, length)) = self.2.take() {
            self.0.pages.borrow_mut()[page][..length].copy_from_slice(&self.1[..length]);
        }
    }
}

impl Pages for Mine {
    fn gref(&self, page: usize) -> u32 {
        GREF + u32::try_from(page).unwrap()
    }

    fn write(&mut self, page: usize, length: usize) -> &mut [u8] {
        self.flush();
        self.2 = Some((page, length));
        &mut self.1[..length]
    }

    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.pages.borrow()[page][offset..][..into.len()]);
    }
}

fn words() -> Words {
    (0..1024).map(|_| AtomicU32::new(0)).collect()
}

struct Guest {
    rings: Rings<Words, Mine>,
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
        let mine = Mine(memory.clone(), Box::new([0; 4096]), None);
        let mut rings = Rings::new(tx.clone(), rx.clone(), mine).unwrap();
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
        // What the guest wrote last is seen by others.
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
                        guests[who].rings.flush_for_test();
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
