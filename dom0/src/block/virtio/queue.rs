//! A split queue whose every entry is one indirect table, so that a queue of N holds N requests, however long they are.
//! Virtio 1.2, section 2.7.
//!
//! The device is trusted with memory: nothing keeps it from writing where it likes. Yet what it writes is checked, so
//! that a device that errs does no more harm than it must.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use guest_kernel::ring::SharedMemory;

/// In a descriptor's flags: its buffer is a table of descriptors.
const INDIRECT: u32 = 1 << 2;
/// In the flags of either ring: no need to tell.
const QUIET: u32 = 1;

/// Where the parts of a queue of `size` entries are, in 32-bit words.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The available ring: flags and index in one word, entries in pairs, the event index.
    pub available: usize,
    /// The used ring: flags and index in one word, entries, the event index.
    pub used: usize,
    /// All of it.
    pub words: usize,
}

impl Layout {
    /// Of a queue whose size is a power of two, and at least 2.
    pub const fn new(size: u16) -> Layout {
        let size = size as usize;
        let available = 4 * size;
        let used = available + 2 + size / 2;
        Layout { available, used, words: used + 2 + 2 * size }
    }
}

/// A queue. Entry `n` is always that of table `n`.
#[derive(Debug)]
pub struct Queue<M> {
    memory: M,
    layout: Layout,
    size: u16,
    /// Both sides name the index at which they want to be told (`VIRTIO_F_EVENT_IDX`).
    event_index: bool,
    free: Vec<u16>,
    in_use: Vec<bool>,
    /// The next entry of the available ring to write; those from `shown` on are not the device's yet.
    next: u16,
    shown: u16,
    /// The next entry of the used ring to read.
    used: u16,
}

impl<M: SharedMemory> Queue<M> {
    /// An empty queue in zeroed memory, which has at least [`Layout::words`]. `tables` are the machine addresses of the
    /// entries' tables: as many as the queue has entries.
    pub fn new(memory: M, tables: &[u64], event_index: bool) -> Queue<M> {
        let size = u16::try_from(tables.len()).unwrap_or(1 << 15);
        assert!(size.is_power_of_two() && size > 1, "a queue's size is a power of two");
        for (table, word) in tables.iter().zip((0..).step_by(4)) {
            let [low, high] = halves(*table);
            memory.store(word, low, Relaxed);
            memory.store(word + 1, high, Relaxed);
            memory.store(word + 3, INDIRECT, Relaxed);
        }
        let free = (0..size).rev().collect();
        let in_use = tables.iter().map(|_| false).collect();
        let layout = Layout::new(size);
        Queue { memory, layout, size, event_index, free, in_use, next: 0, shown: 0, used: 0 }
    }

    /// An entry for a request, whose table is to be written before it is [added](Self::add). `None` if all are in use.
    pub fn take(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Adds the table of an entry that was taken, with so many descriptors. The device sees it when it is
    /// [published](Self::publish).
    pub fn add(&mut self, entry: u16, descriptors: u32) {
        self.in_use[usize::from(entry)] = true;
        self.memory.store(4 * usize::from(entry) + 2, 16 * descriptors, Relaxed);
        // Two entries of 16 bits share a word, which only this side writes.
        let slot = usize::from(self.next % self.size);
        let word = self.layout.available + 1 + slot / 2;
        let shift = 16 * (slot % 2);
        let other = self.memory.load(word, Relaxed) & !(0xffff << shift);
        self.memory.store(word, other | u32::from(entry) << shift, Relaxed);
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the device what was added. Whether it wants to be told.
    #[must_use = "the device sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.shown, self.next);
        if old == self.next {
            return false;
        }
        self.memory.store(self.layout.available, u32::from(self.next) << 16, Release);
        self.memory.barrier();
        if self.event_index {
            let [event, _] = words(self.memory.load(self.layout.used + 1 + 2 * usize::from(self.size), Relaxed));
            self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(old)
        } else {
            self.memory.load(self.layout.used, Relaxed) & QUIET == 0
        }
    }

    /// The next entry that the device is done with.
    pub fn complete(&mut self) -> Option<u16> {
        loop {
            if self.is_empty() {
                return None;
            }
            let word = self.layout.used + 1 + 2 * usize::from(self.used % self.size);
            self.used = self.used.wrapping_add(1);
            let entry = u16::try_from(self.memory.load(word, Relaxed)).ok();
            // What it doesn't have it can't be done with.
            let in_use = entry.and_then(|entry| self.in_use.get_mut(usize::from(entry)));
            if let (Some(entry), Some(true)) = (entry, in_use.map(core::mem::take)) {
                self.free.push(entry);
                return Some(entry);
            }
        }
    }

    /// Asks to be told of the next completion. `true` if there is one already.
    #[must_use = "a completion that is there already causes no interrupt"]
    pub fn arm(&mut self) -> bool {
        if self.event_index {
            let word = self.layout.available + 1 + usize::from(self.size) / 2;
            self.memory.store(word, self.used.into(), Relaxed);
            self.memory.barrier();
        }
        !self.is_empty()
    }

    fn is_empty(&self) -> bool {
        let [_, index] = words(self.memory.load(self.layout.used, Acquire));
        index == self.used
    }
}

/// The halves of a word of two 16-bit fields, the first in memory first.
fn words(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

/// The halves of an address, the first in memory first.
pub fn halves(address: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
