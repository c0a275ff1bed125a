//! The device's requests: operations of a [`Disk`](super::super::Disk) in a queue. Virtio 1.2, section 5.2.6.
//!
//! Each entry of the queue has a *slot* of memory of our own: the request's header, the segment of a discard, the status,
//! and the table of descriptors that names them and the data between them.

use super::queue::{Queue, halves};
use crate::block::disk::{Chunk, Failed, Full, Operation};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use guest_kernel::ring::SharedMemory;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const GET_ID: u32 = 8;
/// The status of a request that was carried out.
const OK: u32 = 0;
/// A status that no device writes.
const NONE: u32 = 0xff;

/// In a descriptor's flags: there is a next one.
const NEXT: u32 = 1 << 0;
/// In a descriptor's flags: the device writes.
const WRITE: u32 = 1 << 1;

/// Bytes of a slot; it is in one page.
pub const SLOT_BYTES: usize = 2048;
/// Places in a slot, in 32-bit words.
const HEADER: usize = 0;
/// The segment of a discard, or 20 bytes of an identity.
const SEGMENT: usize = 4;
const STATUS: usize = 9;
const TABLE: usize = 12;
/// Most chunks in an operation: what the table holds beside header and status.
pub const MAX_CHUNKS: usize = (SLOT_BYTES / 4 - TABLE) / 4 - 2;

/// A queue of requests, and their slots.
#[derive(Debug)]
pub struct Requests<M> {
    queue: Queue<M>,
    /// The slots' memory, one behind the other, and their machine addresses.
    slots: M,
    addresses: Vec<u64>,
    /// What the operations complete with.
    tokens: Vec<u64>,
}

/// Bytes of a serial number.
const IDENTITY_BYTES: u32 = 20;

/// Where the device puts its serial number.
#[derive(Debug)]
pub struct Identity(u16);

/// The addresses of the slots' tables, for [`Queue::new`].
pub fn tables(slots: &[u64]) -> Vec<u64> {
    slots.iter().map(|slot| slot + 4 * TABLE as u64).collect()
}

impl<M: SharedMemory> Requests<M> {
    /// No requests, in a queue made with the [`tables`] of the slots at these machine addresses.
    pub fn new(queue: Queue<M>, slots: M, addresses: Vec<u64>) -> Requests<M> {
        assert!(slots.words() * 4 >= addresses.len() * SLOT_BYTES, "a slot without memory");
        let tokens = addresses.iter().map(|_| 0).collect();
        Requests { queue, slots, addresses, tokens }
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// [`Full`]: nothing happened.
    pub fn submit(&mut self, token: u64, operation: Operation<'_>) -> Result<(), Full> {
        let entry = self.queue.take().ok_or(Full)?;
        let index = usize::from(entry);
        self.tokens[index] = token;
        let (kind, sector, chunks, flags) = match operation {
            Operation::Read { sector, into } => (IN, sector, into, WRITE),
            Operation::Write { sector, from } => (OUT, sector, from, 0),
            Operation::Flush => (FLUSH, 0, &[][..], 0),
            Operation::Discard { sector, sectors } => {
                self.write(index, SEGMENT, sector);
                self.write(index, SEGMENT + 2, sectors.into());
                let segment = Chunk { address: self.address(index, SEGMENT), bytes: 16 };
                self.add(entry, DISCARD, 0, &[segment], 0);
                return Ok(());
            }
        };
        debug_assert!(chunks.len() <= MAX_CHUNKS);
        self.add(entry, kind, sector, chunks, flags);
        Ok(())
    }

    /// Asks the device for its serial number, which is in [`identity`](Self::identity) when that has completed.
    ///
    /// # Errors
    /// [`Full`].
    pub fn identify(&mut self, token: u64) -> Result<Identity, Full> {
        let entry = self.queue.take().ok_or(Full)?;
        self.tokens[usize::from(entry)] = token;
        let place = Chunk { address: self.address(usize::from(entry), SEGMENT), bytes: IDENTITY_BYTES };
        self.add(entry, GET_ID, 0, &[place], WRITE);
        Ok(Identity(entry))
    }

    /// The serial number that was asked for, if nothing was submitted since.
    pub fn identity(&self, Identity(entry): &Identity) -> [u8; IDENTITY_BYTES as usize] {
        let first = usize::from(*entry) * SLOT_BYTES / 4 + SEGMENT;
        let mut bytes = [0; IDENTITY_BYTES as usize];
        for (n, word) in bytes.chunks_mut(4).enumerate() {
            word.copy_from_slice(&self.slots.load(first + n, Relaxed).to_le_bytes());
        }
        bytes
    }

    /// Fills the slot of an entry, and adds it.
    fn add(&mut self, entry: u16, kind: u32, sector: u64, chunks: &[Chunk], flags: u32) {
        let slot = usize::from(entry);
        self.write(slot, HEADER, kind.into());
        self.write(slot, HEADER + 2, sector);
        self.slots.store(slot * SLOT_BYTES / 4 + STATUS, NONE, Relaxed);
        self.descriptor(slot, 0, Chunk { address: self.address(slot, HEADER), bytes: 16 }, NEXT);
        let mut count = 1;
        for chunk in chunks {
            self.descriptor(slot, count, *chunk, NEXT | flags);
            count += 1;
        }
        self.descriptor(slot, count, Chunk { address: self.address(slot, STATUS), bytes: 1 }, WRITE);
        self.queue.add(entry, count + 1);
    }

    fn descriptor(&self, slot: usize, index: u32, Chunk { address, bytes }: Chunk, flags: u32) {
        let at = TABLE + 4 * index as usize;
        self.write(slot, at, address);
        self.write(slot, at + 2, u64::from(bytes) | u64::from(flags | (index + 1) << 16) << 32);
    }

    /// Writes two words of a slot.
    fn write(&self, slot: usize, place: usize, value: u64) {
        let word = slot * SLOT_BYTES / 4 + place;
        let [low, high] = halves(value);
        self.slots.store(word, low, Relaxed);
        self.slots.store(word + 1, high, Relaxed);
    }

    fn address(&self, slot: usize, place: usize) -> u64 {
        self.addresses[slot] + 4 * place as u64
    }

    /// Shows the device what was submitted. Whether it wants to be told.
    #[must_use = "the device sleeps until it is told"]
    pub fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// The next operation that has completed. `None` also asks the device to tell of the next one.
    pub fn complete(&mut self) -> Option<(u64, Result<(), Failed>)> {
        let entry = loop {
            match self.queue.complete() {
                Some(entry) => break usize::from(entry),
                None if self.queue.arm() => {}
                None => return None,
            }
        };
        let status = self.slots.load(entry * SLOT_BYTES / 4 + STATUS, Relaxed) & 0xff;
        Some((self.tokens[entry], if status == OK { Ok(()) } else { Err(Failed) }))
    }
}
