//! The whole front end, with TCP/IP and servers on top, against a back end that writes what it likes.

use super::Mac;
use super::nic::Nic;
use super::rings::{Fault, Pages, RX_PAGES, Rings, TX_PAGES};
use super::serve::Servers;
use super::stack::Stack;
use core::cell::RefCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use proptest::prelude::*;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};
use std::rc::Rc;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

const PAGE: usize = 4096;
const MAC: Mac = Mac([0, 0x16, 0x3e, 0, 0, 1]);
/// Words of a ring's page, of its header, and the index of its response producer.
const WORDS: usize = 1024;
const HEADER: usize = 16;
const RSP_PROD: usize = 2;

type Words = Arc<[AtomicU32]>;

/// Pages that both sides have. The front end stays within them, and writes to none that the back end is to read.
#[derive(Clone)]
struct Memory(Rc<RefCell<Vec<[u8; PAGE]>>>);

impl Pages for Memory {
    fn gref(&self, page: usize) -> u32 {
        assert!(page < RX_PAGES + TX_PAGES);
        u32::try_from(page).unwrap() + 8
    }

    fn write<T>(&mut self, page: usize, length: usize, write: impl FnOnce(&mut [u8]) -> T) -> T {
        assert!((RX_PAGES..RX_PAGES + TX_PAGES).contains(&page) && length <= PAGE);
        write(&mut self.0.borrow_mut()[page][..length])
    }

    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        assert!(page < RX_PAGES && offset + into.len() <= PAGE);
        into.copy_from_slice(&self.0.borrow()[page][offset..][..into.len()]);
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Any word of a ring, the rx ring's or the tx ring's.
    Scribble(bool, usize, u32),
    /// The response producer goes on by so much.
    Produce(bool, u32),
    /// A response on the rx ring that is nearly right: its distance from the right id, offset, flags, status; and what is in
    /// the page.
    Arrive(u16, u16, u16, i16, Vec<u8>),
    /// A response on the tx ring, to the request with this id.
    Sent(u16, i16),
    /// The guest's turn, so many milliseconds later.
    Turn(u64),
}

fn act() -> impl Strategy<Value = Act> {
    // Frames that the stack looks into: to this guest, ARP or IPv4 of any kind, with random bytes behind.
    let frame = (0u8..4, proptest::collection::vec(any::<u8>(), 0..120)).prop_map(|(kind, rest)| {
        let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9]].concat();
        frame.extend(match kind {
            0 => vec![8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            1 => vec![8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1, 0, 9, 0, 80],
            2 => vec![8, 0, 0x4f, 0],
            _ => vec![],
        });
        frame.extend(rest);
        frame
    });
    let rarely = |odd: BoxedStrategy<u16>| prop_oneof![30 => Just(0u16), 1 => odd];
    let status = prop_oneof![1 => any::<i16>(), 20 => 0i16..200];
    prop_oneof![
        1 => (any::<bool>(), HEADER..WORDS, any::<u32>()).prop_map(|(rx, word, value)| Act::Scribble(rx, word, value)),
        1 => (any::<bool>(), 0usize..4, any::<u32>()).prop_map(|(rx, word, value)| Act::Scribble(rx, word, value)),
        2 => (any::<bool>(), prop_oneof![9 => 0u32..3, 1 => any::<u32>()]).prop_map(|(rx, count)| Act::Produce(rx, count)),
        40 => (rarely(any::<u16>().boxed()), rarely((0u16..4200).boxed()), rarely((0u16..32).boxed()), status, frame)
            .prop_map(|(id, offset, flags, status, frame)| Act::Arrive(id, offset, flags, status, frame)),
        10 => (prop_oneof![9 => 0u16..70, 1 => any::<u16>()], -3i16..3).prop_map(|(id, status)| Act::Sent(id, status)),
        20 => (0u64..2000).prop_map(Act::Turn),
    ]
}

struct World {
    tx: Words,
    rx: Words,
    memory: Memory,
    nic: Nic<Words, Memory>,
    stack: Stack,
    servers: Servers,
}

fn world() -> World {
    let [tx, rx] = [(); 2].map(|()| (0..WORDS).map(|_| AtomicU32::new(0)).collect::<Words>());
    let memory = Memory(Rc::new(RefCell::new(vec![[0; PAGE]; RX_PAGES + TX_PAGES])));
    let mut nic = Nic::new(Rings::new(tx.clone(), rx.clone(), memory.clone()).unwrap(), true);
    let address = Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, 1), 24);
    let mut stack = Stack::with_address(MAC, address, &mut nic, 1, 0);
    let servers = Servers::new(&mut stack);
    assert!(nic.settle().is_ok());
    World { tx, rx, memory, nic, stack, servers }
}

impl World {
    fn ring(&self, rx: bool) -> &Words {
        if rx { &self.rx } else { &self.tx }
    }

    fn turn(&mut self, now: u64) -> Result<(), Fault> {
        for _ in 0..4 {
            self.stack.poll(&mut self.nic, now);
            self.servers.work(&mut self.stack, |_| "page".into());
            self.nic.settle()?;
        }
        Ok(())
    }
}

proptest! {
    /// Packets or a fault, and nothing else: no panic, no access beyond the pages; and after a fault there is only that.
    #[test]
    fn a_back_end_that_lies(acts in proptest::collection::vec(act(), 0..200)) {
        let mut world = world();
        let mut now = 0;
        for act in acts {
            match act {
                Act::Scribble(rx, word, value) => world.ring(rx)[word].store(value, Relaxed),
                Act::Produce(rx, count) => _ = world.ring(rx)[RSP_PROD].fetch_add(count, Relaxed),
                Act::Arrive(wrong, offset, flags, status, frame) => {
                    let index = world.rx[RSP_PROD].load(Relaxed);
                    // Pages are posted in turn, and come back in that order.
                    let page = index as usize % RX_PAGES;
                    world.memory.0.borrow_mut()[page][..frame.len()].copy_from_slice(&frame);
                    let id = u16::try_from(page).unwrap().wrapping_add(wrong);
                    let first = HEADER + index as usize % 256 * 2;
                    world.rx[first].store(u32::from(id) | u32::from(offset) << 16, Relaxed);
                    let status = u32::from(status.cast_unsigned());
                    world.rx[first + 1].store(u32::from(flags) | status << 16, Relaxed);
                    world.rx[RSP_PROD].store(index.wrapping_add(1), Relaxed);
                }
                Act::Sent(id, status) => {
                    let index = world.tx[RSP_PROD].load(Relaxed);
                    let status = u32::from(status.cast_unsigned());
                    world.tx[HEADER + index as usize % 256 * 3].store(u32::from(id) | status << 16, Relaxed);
                    world.tx[RSP_PROD].store(index.wrapping_add(1), Relaxed);
                }
                Act::Turn(later) => {
                    now += later * 1_000_000;
                    if let Err(fault) = world.turn(now) {
                        prop_assert_eq!(world.turn(now), Err(fault));
                        // As a guest does: the device is closed, and connected again.
                        world = self::world();
                    }
                }
            }
        }
    }
}
