//! The memory of a ring as 32-bit words, the size of its indices and the unit of all entries.

use super::Error;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU32, Ordering, fence};
use pv_abi::io::ring::{RingHeader, ring_slots};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Memory that the other side changes at any time.
///
/// A ring owns its memory, so that what maps it can also unmap it when the ring is dropped.
pub trait SharedMemory {
    /// How many 32-bit words there are.
    fn words(&self) -> usize;

    /// Reads a word.
    fn load(&self, word: usize, order: Ordering) -> u32;

    /// Writes a word.
    fn store(&self, word: usize, value: u32, order: Ordering);

    /// Orders all that was stored before it against all that is loaded after it.
    fn barrier(&self);
}

impl<T: AsRef<[AtomicU32]>> SharedMemory for T {
    fn words(&self) -> usize {
        self.as_ref().len()
    }

    fn load(&self, word: usize, order: Ordering) -> u32 {
        self.as_ref()[word].load(order)
    }

    fn store(&self, word: usize, value: u32, order: Ordering) {
        self.as_ref()[word].store(value, order);
    }

    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

/// A word of the header.
#[derive(Clone, Copy)]
pub(super) enum Index {
    RequestProducer = offset_of!(RingHeader, req_prod) as isize / 4,
    RequestEvent = offset_of!(RingHeader, req_event) as isize / 4,
    ResponseProducer = offset_of!(RingHeader, rsp_prod) as isize / 4,
    ResponseEvent = offset_of!(RingHeader, rsp_event) as isize / 4,
}

/// The header and the slots behind it. Whatever index is asked for, the word is inside.
#[derive(Debug)]
pub(super) struct Slots<M> {
    memory: M,
    /// A power of two.
    count: u32,
    /// Words in a slot.
    stride: usize,
}

impl<M: SharedMemory> Slots<M> {
    /// The slots that fit for entries of `bytes`.
    pub(super) fn new(memory: M, bytes: usize) -> Result<Slots<M>, Error> {
        let count = u32::try_from(ring_slots(memory.words() * 4, bytes)).unwrap_or(1 << 31);
        if count == 0 { Err(Error::TooSmall) } else { Ok(Slots { memory, count, stride: bytes / 4 }) }
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    pub(super) const fn memory(&self) -> &M {
        &self.memory
    }

    pub(super) fn into_memory(self) -> M {
        self.memory
    }

    pub(super) fn index(&self, index: Index) -> u32 {
        self.memory.load(index as usize, Ordering::Acquire)
    }

    pub(super) fn set_index(&self, index: Index, value: u32) {
        self.memory.store(index as usize, value, Ordering::Release);
    }

    pub(super) fn barrier(&self) {
        self.memory.barrier();
    }

    /// Copies an entry out of a slot.
    pub(super) fn read<E: FromBytes + IntoBytes>(&self, index: u32) -> E {
        let mut entry = E::new_zeroed();
        let first = self.first(index);
        for (n, bytes) in entry.as_mut_bytes().chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&self.memory.load(first + n, Ordering::Relaxed).to_ne_bytes());
        }
        entry
    }

    /// Copies an entry into a slot.
    pub(super) fn write<E: IntoBytes + Immutable>(&self, index: u32, entry: &E) {
        let first = self.first(index);
        for (n, word) in entry.as_bytes().as_chunks::<4>().0.iter().enumerate() {
            self.memory.store(first + n, u32::from_ne_bytes(*word), Ordering::Relaxed);
        }
    }

    /// The first word of a slot.
    fn first(&self, index: u32) -> usize {
        size_of::<RingHeader>() / 4 + (index & (self.count - 1)) as usize * self.stride
    }
}

/// Bytes in a slot for both kinds of entries. Entries are made of whole words.
pub(super) const fn slot_bytes<Req, Rsp>() -> usize {
    assert!(size_of::<Req>().is_multiple_of(4) && size_of::<Rsp>().is_multiple_of(4));
    if size_of::<Req>() > size_of::<Rsp>() { size_of::<Req>() } else { size_of::<Rsp>() }
}
