//! The stores that a vCPU made before, decoded: a kernel changes page tables in few places, each thousands of times.

use super::super::fetch::Code;
use super::common::Common;
use super::decode::{Store, decode};

/// Places that are remembered.
const PLACES: usize = 8;

/// Decoded stores by their bytes. What an instruction means depends on nothing else, so that whatever becomes of guest code,
/// one that is found here is what the bytes just fetched say.
#[derive(Default, Debug)]
pub struct KnownStores {
    places: [Option<Known>; PLACES],
}

/// A store in both forms.
#[derive(Clone, Copy, Debug)]
struct Known {
    words: [u64; 2],
    /// What takes the fewest steps, if it is one of the common stores.
    common: Option<Common>,
    store: Store,
}

impl KnownStores {
    /// The store at `rip`, whose bytes were fetched from there, if it is a common one that was decoded before.
    #[inline(always)]
    pub(super) fn common(&self, rip: u64, code: &Code) -> Option<&Common> {
        let known = self.places[place_of(rip)].as_ref()?;
        if code.words()? == known.words { known.common.as_ref() } else { None }
    }

    /// Decodes the store at `rip`, whose bytes were fetched from there; `None` if it is none.
    #[inline]
    pub(super) fn decode(&mut self, rip: u64, code: &Code) -> Option<Store> {
        let place = &mut self.places[place_of(rip)];
        match (code.words(), place) {
            (Some(words), Some(known)) if known.words == words => Some(known.store),
            (words, place) => decode_anew(code, words, place),
        }
    }
}

/// The last bits of addresses of instructions are as good as random.
#[inline]
fn place_of(rip: u64) -> usize {
    let [last, ..] = (rip ^ rip >> 3).to_le_bytes();
    usize::from(last) % PLACES
}

#[inline(never)]
fn decode_anew(code: &Code, words: Option<[u64; 2]>, place: &mut Option<Known>) -> Option<Store> {
    let store = decode(code.bytes()).ok()?;
    if let Some(words) = words {
        *place = Some(Known { words, common: Common::of(&store), store });
    }
    Some(store)
}
