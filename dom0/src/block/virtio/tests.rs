//! A device that reads the queue's memory as the specification has it, and nothing else.
#![allow(clippy::cast_possible_truncation, reason = "tests cut numbers to size that they know")]

use super::queue::{Layout, Queue};
use super::requests::{MAX_CHUNKS, Requests, SLOT_BYTES, tables};
use crate::block::{Chunk, Failed, Operation};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec::Vec;

type Memory = Arc<[AtomicU32]>;

const SIZE: u16 = 4;
/// Machine address of the slots.
const SLOTS: u64 = 0x1_2345_6000;

fn zeros(words: usize) -> Memory {
    (0..words).map(|_| AtomicU32::new(0)).collect()
}

fn requests(event_index: bool) -> (Requests<Memory>, Device) {
    let slots = zeros(usize::from(SIZE) * SLOT_BYTES / 4);
    let addresses: Vec<u64> = (0..u64::from(SIZE)).map(|n| SLOTS + n * SLOT_BYTES as u64).collect();
    let memory = zeros(Layout::new(SIZE).words);
    let queue = Queue::new(memory.clone(), &tables(&addresses), event_index);
    let device = Device { memory, slots: slots.clone(), seen: 0, done: 0, event_index };
    (Requests::new(queue, slots, addresses), device)
}

/// What the device makes of a request: its type, sector, data (address, length, whether it writes), and the discard.
type Request = (u32, u64, Vec<(u64, u32, bool)>);

struct Device {
    memory: Memory,
    slots: Memory,
    seen: u16,
    done: u16,
    event_index: bool,
}

impl Device {
    fn half(&self, byte: usize) -> u16 {
        (self.memory[byte / 4].load(Relaxed) >> (8 * (byte % 4))) as u16
    }

    fn set_half(&self, byte: usize, value: u16) {
        let (word, shift) = (&self.memory[byte / 4], 8 * (byte % 4));
        word.store(word.load(Relaxed) & !(0xffff << shift) | u32::from(value) << shift, Relaxed);
    }

    fn slot(&self, address: u64) -> (u64, u32) {
        let word = (address - SLOTS) as usize / 4;
        let [low, high] = [word, word + 1].map(|word| u64::from(self.slots[word].load(Relaxed)));
        (low | high << 32, low as u32)
    }

    /// The next request that is available: the entry, what it says, and where its status goes.
    fn take(&mut self) -> Option<(u16, Request, u64)> {
        let size = usize::from(SIZE);
        let available = 16 * size;
        if self.half(available + 2) == self.seen {
            return None;
        }
        let entry = self.half(available + 4 + 2 * usize::from(self.seen % SIZE));
        self.seen = self.seen.wrapping_add(1);
        if self.event_index {
            self.set_half(4 * Layout::new(SIZE).used + 4 + 8 * size, self.seen);
        }
        let word = |n: usize| self.memory[4 * usize::from(entry) + n].load(Relaxed);
        let table = u64::from(word(0)) | u64::from(word(1)) << 32;
        assert_eq!(word(3), 4, "an indirect table");
        let count = u64::from(word(2)) / 16;
        let mut parts = Vec::new();
        for n in 0..count {
            let (address, _) = self.slot(table + 16 * n);
            let (rest, bytes) = self.slot(table + 16 * n + 8);
            let (flags, next) = ((rest >> 32) as u16, rest >> 48);
            assert_eq!(flags & 1 != 0, n + 1 < count);
            assert!(flags & 1 == 0 || next == n + 1);
            parts.push((address, bytes, flags & 2 != 0));
        }
        let (first, last) = (parts.remove(0), parts.pop().unwrap());
        assert_eq!((first.1, first.2, last.1, last.2), (16, false, 1, true));
        // What the device reads comes before what it writes.
        assert!(parts.is_sorted_by_key(|part| part.2));
        let (kind, sector) = (self.slot(first.0).1, self.slot(first.0 + 8).0);
        Some((entry, (kind, sector, parts), last.0))
    }

    /// Says that an entry is done; whether the driver wants to be told.
    fn finish(&mut self, entry: u16, status_at: u64, status: u8) -> bool {
        let word = &self.slots[(status_at - SLOTS) as usize / 4];
        word.store(word.load(Relaxed) & !0xff | u32::from(status), Relaxed);
        self.finish_entry(entry.into())
    }

    fn finish_entry(&mut self, entry: u32) -> bool {
        let used = Layout::new(SIZE).used;
        self.memory[used + 1 + 2 * usize::from(self.done % SIZE)].store(entry, Relaxed);
        let old = self.done;
        self.done = self.done.wrapping_add(1);
        self.set_half(4 * used + 2, self.done);
        let event = self.half(16 * usize::from(SIZE) + 4 + 2 * usize::from(SIZE));
        !self.event_index || event == old
    }
}

const DATA: [Chunk; 2] = [Chunk { address: 0x7_0000_0200, bytes: 1024 }, Chunk { address: 0x9000, bytes: 4096 }];

#[test]
fn requests_look_as_the_specification_has_them() {
    let (mut requests, mut device) = requests(true);
    let operations = [
        Operation::Read { sector: 1 << 33, into: &DATA },
        Operation::Write { sector: 7, from: &DATA },
        Operation::Flush,
        Operation::Discard { sector: 5, sectors: 9 },
    ];
    for (operation, token) in operations.into_iter().zip(100..) {
        assert_eq!(requests.submit(token, operation), Ok(()));
    }
    assert!(requests.submit(104, Operation::Flush).is_err());
    assert!(device.take().is_none(), "not published yet");
    assert!(requests.publish() && !requests.publish());
    let data = |writes| DATA.iter().map(|chunk| (chunk.address, chunk.bytes, writes)).collect::<Vec<_>>();
    assert_eq!(device.take().unwrap().1, (0, 1 << 33, data(true)));
    assert_eq!(device.take().unwrap().1, (1, 7, data(false)));
    assert_eq!(device.take().unwrap().1, (4, 0, Vec::new()));
    let (entry, (kind, sector, segment), status_at) = device.take().unwrap();
    assert_eq!((kind, sector, segment.len(), segment[0].1, segment[0].2), (11, 0, 1, 16, false));
    assert_eq!((device.slot(segment[0].0).0, device.slot(segment[0].0 + 8).0), (5, 9));
    assert!(requests.complete().is_none());
    assert!(device.finish(entry, status_at, 0));
    assert_eq!(requests.complete(), Some((103, Ok(()))));
    assert_eq!(requests.complete(), None);
}

#[test]
fn the_device_says_its_name() {
    let (mut requests, mut device) = requests(true);
    let identity = requests.identify(9).unwrap();
    assert!(requests.publish());
    let (entry, (kind, _, place), status_at) = device.take().unwrap();
    assert_eq!((kind, place.len(), place[0].1, place[0].2), (8, 1, 20, true));
    let first = (place[0].0 - SLOTS) as usize / 4;
    (0..5).for_each(|n| device.slots[first + n].store(u32::from_le_bytes(*b"name"), Relaxed));
    device.finish(entry, status_at, 0);
    assert_eq!(requests.complete(), Some((9, Ok(()))));
    assert_eq!(&requests.identity(&identity), b"namenamenamenamename");
}

#[test]
fn a_device_that_says_nonsense_is_not_believed() {
    let (mut requests, mut device) = requests(false);
    requests.submit(1, Operation::Flush).unwrap();
    assert!(requests.publish());
    let (entry, _, status_at) = device.take().unwrap();
    // Entries that there are not, and that it has not got.
    [4, 65536, u32::MAX, 2].into_iter().for_each(|entry| _ = device.finish_entry(entry));
    assert_eq!(requests.complete(), None);
    // Done without a status, then a second time.
    device.finish_entry(entry.into());
    assert_eq!(requests.complete(), Some((1, Err(Failed))));
    device.finish(entry, status_at, 0);
    assert_eq!(requests.complete(), None);
}

#[test]
fn the_longest_operation_fits() {
    let (mut requests, mut device) = requests(true);
    let chunks = [DATA[0]; MAX_CHUNKS];
    (0..SIZE).for_each(|n| requests.submit(n.into(), Operation::Write { sector: 0, from: &chunks }).unwrap());
    assert!(requests.publish());
    (0..SIZE).for_each(|_| assert_eq!(device.take().unwrap().1.2.len(), MAX_CHUNKS));
}

proptest! {
    /// Every operation completes once, with its own token and status, and no interrupt is missed.
    #[test]
    fn as_a_set_of_operations(event_index: bool, steps in proptest::collection::vec((0u8..4, 0u8..3, any::<u8>()), 0..300)) {
        let (mut requests, mut device) = requests(event_index);
        let (mut token, mut expected) = (0, BTreeMap::new());
        let (mut held, mut told, mut listening) = (Vec::new(), true, true);
        for (step, status, choice) in steps {
            match step {
                0 => {
                    let full = expected.len() == usize::from(SIZE);
                    let sector = token;
                    prop_assert_eq!(requests.submit(token, Operation::Read { sector, into: &DATA }).is_err(), full);
                    if !full {
                        expected.insert(token, (sector, None));
                        token += 1;
                    }
                }
                1 => told |= requests.publish(),
                2 => {
                    if told {
                        held.extend(core::iter::from_fn(|| device.take()));
                        told = false;
                    } else {
                        prop_assert!(device.take().is_none(), "published, and nobody told the device");
                    }
                    if !held.is_empty() {
                        let (entry, (_, sector, _), status_at) = held.swap_remove(usize::from(choice) % held.len());
                        let operation = expected.values_mut().find(|op| **op == (sector, None)).unwrap();
                        operation.1 = Some(status);
                        listening |= device.finish(entry, status_at, status);
                    }
                }
                _ => {
                    if !listening {
                        prop_assert!(requests.complete().is_none(), "completed, and nobody told the driver");
                        continue;
                    }
                    listening = false;
                    while let Some((token, result)) = requests.complete() {
                        let (_, status) = expected.remove(&token).expect("twice");
                        prop_assert_eq!(Some(result.is_ok()), status.map(|status| status == 0));
                    }
                }
            }
        }
    }
}
