//! The stores that a vCPU made before, decoded: a kernel changes page tables in few places, each thousands of times.

use super::super::fetch::Code;
use super::decode::{Store, decode};

/// Places that are remembered.
const PLACES: usize = 8;

/// Decoded stores by their bytes. What an instruction means depends on nothing else, so that whatever becomes of guest code,
/// one that is found here is what the bytes just fetched say.
#[derive(Default, Debug)]
pub struct KnownStores {
    places: [Option<(u128, Store)>; PLACES],
}

impl KnownStores {
    /// Decodes the store at `rip`, whose bytes were fetched from there; `None` if it is none.
    #[inline]
    pub(super) fn decode(&mut self, rip: u64, code: &Code) -> Option<Store> {
        let place = &mut self.places[place_of(rip)];
        match (code.word(), place) {
            (Some(word), Some((known, store))) if *known == word => Some(*store),
            (word, place) => decode_anew(code, word, place),
        }
    }
}

/// The last bits of addresses of instructions are as good as random.
fn place_of(rip: u64) -> usize {
    let [last, ..] = (rip ^ rip >> 3).to_le_bytes();
    usize::from(last) % PLACES
}

#[inline(never)]
fn decode_anew(code: &Code, word: Option<u128>, place: &mut Option<(u128, Store)>) -> Option<Store> {
    let store = decode(code.bytes()).ok()?;
    if let Some(word) = word {
        *place = Some((word, store));
    }
    Some(store)
}
