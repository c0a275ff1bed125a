//! Which numbers of ports are to be had: those that are *free*, and those *held* back, because they are in a queue of FIFO
//! delivery yet, as the guest says.
//!
//! A guest says so of as many as it likes, for as long as it likes. So no search goes over all that are held: a few are looked
//! at again at a time, in turns. Each step costs a look at as many words as there are, at most 2,048.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::iter;

/// Numbers in a word.
const BITS: u32 = u64::BITS;

/// A bit for each of 64 numbers; of those in use, neither is set.
#[derive(Clone, Copy, Default)]
struct Word {
    free: u64,
    held: u64,
}

/// The numbers of all ports that there are.
pub(super) struct Numbers {
    words: Vec<Word>,
    /// No word before this one has a free number.
    lowest: usize,
    /// Held numbers.
    held: u32,
    /// The held one that was looked at last.
    looked_at: u32,
}

/// Where a number is.
const fn place(number: u32) -> (usize, u64) {
    ((number / BITS) as usize, 1 << (number % BITS))
}

/// The numbers of the bits that are set.
fn numbers(word: usize, mut bits: u64) -> impl Iterator<Item = u32> {
    let first = u32::try_from(word).unwrap_or(u32::MAX / BITS) * BITS;
    iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(first + bit)
    })
}

impl Numbers {
    /// None.
    pub const fn new() -> Numbers {
        Numbers { words: Vec::new(), lowest: 0, held: 0, looked_at: 0 }
    }

    /// How many there are, in use or not.
    pub fn len(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX / BITS) * BITS
    }

    /// What it takes to add so many, in bytes.
    pub const fn size_of(count: usize) -> usize {
        count / BITS as usize * size_of::<Word>()
    }

    /// Makes room for so many more; adding them doesn't fail then.
    ///
    /// # Errors
    /// There is no memory.
    pub fn reserve(&mut self, count: usize) -> Result<(), TryReserveError> {
        self.words.try_reserve_exact(count / BITS as usize)
    }

    /// Adds so many numbers, a multiple of 64, which are free.
    pub fn add(&mut self, count: usize) {
        let words = self.words.len() + count / BITS as usize;
        self.words.resize(words, Word { free: u64::MAX, held: 0 });
    }

    /// The least that is free.
    pub fn lowest(&mut self) -> Option<u32> {
        let found = self.words.iter().skip(self.lowest).position(|word| word.free != 0);
        self.lowest = found.map_or(self.words.len(), |skipped| self.lowest + skipped);
        numbers(self.lowest, self.words.get(self.lowest)?.free).next()
    }

    /// A number is in use from now on.
    pub fn take(&mut self, number: u32) {
        let (word, bit) = place(number);
        if let Some(word) = self.words.get_mut(word) {
            self.held -= u32::from(word.held & bit != 0);
            (word.free, word.held) = (word.free & !bit, word.held & !bit);
        }
    }

    /// A number is in use no more, and free.
    pub fn free(&mut self, number: u32) {
        self.take(number);
        let (index, bit) = place(number);
        if let Some(word) = self.words.get_mut(index) {
            word.free |= bit;
            self.lowest = self.lowest.min(index);
        }
    }

    /// A number is in use no more, and held.
    pub fn hold(&mut self, number: u32) {
        self.take(number);
        let (word, bit) = place(number);
        if let Some(word) = self.words.get_mut(word) {
            word.held |= bit;
            self.held += 1;
        }
    }

    /// Looks at so many of those that are held, which become free unless `is_linked`.
    pub fn look_again(&mut self, looks: u32, is_linked: impl Fn(u32) -> bool) {
        for _ in 0..looks.min(self.held) {
            let Some(number) = self.next_held() else { return };
            self.looked_at = number;
            if !is_linked(number) {
                self.free(number);
            }
        }
    }

    /// The held one behind the one that was looked at last, or else the first.
    fn next_held(&self) -> Option<u32> {
        let (at, bit) = place(self.looked_at);
        let behind = !(bit | (bit - 1));
        let later = |index| if index == at { behind } else { u64::MAX };
        let mut words = self.words.iter().enumerate().skip(at).map(|(index, word)| (index, word.held & later(index)));
        let next = words.find(|(_, held)| *held != 0);
        let next = next.or_else(|| self.words.iter().map(|word| word.held).enumerate().find(|(_, held)| *held != 0));
        next.and_then(|(index, held)| numbers(index, held).next())
    }

    /// All that are held become free.
    pub fn free_held(&mut self) {
        for word in &mut self.words {
            word.free |= core::mem::take(&mut word.held);
        }
        (self.lowest, self.held) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec;
    use std::vec::Vec;

    const COUNT: u32 = 192;

    #[derive(Clone, Debug)]
    enum Action {
        TakeLowest,
        Free(u32),
        Hold(u32),
        Unlink(u32),
        Look(u32),
        FreeHeld,
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let number = 0..COUNT;
        let action = prop_oneof![
            6 => Just(Action::TakeLowest),
            3 => number.clone().prop_map(Action::Free),
            3 => number.clone().prop_map(Action::Hold),
            3 => number.prop_map(Action::Unlink),
            2 => (0..8_u32).prop_map(Action::Look),
            1 => Just(Action::FreeHeld),
        ];
        proptest::collection::vec(action, 1..400)
    }

    proptest! {
        #![proptest_config(crate::mm::tests::config(512))]

        #[test]
        fn as_sets_have_it(actions in actions()) {
            let mut numbers = Numbers::new();
            numbers.add(COUNT as usize);
            let mut free: BTreeSet<u32> = (0..COUNT).collect();
            let (mut held, mut linked) = (BTreeSet::new(), BTreeSet::new());
            for action in actions {
                match action {
                    Action::TakeLowest => {
                        prop_assert_eq!(numbers.lowest(), free.first().copied());
                        if let Some(number) = free.pop_first() {
                            numbers.take(number);
                        }
                    }
                    Action::Free(number) => {
                        numbers.free(number);
                        held.remove(&number);
                        free.insert(number);
                    }
                    Action::Hold(number) => {
                        numbers.hold(number);
                        free.remove(&number);
                        held.insert(number);
                        linked.insert(number);
                    }
                    Action::Unlink(number) => {
                        linked.remove(&number);
                    }
                    Action::Look(looks) => {
                        let looks = looks.min(u32::try_from(held.len()).unwrap());
                        let looked_at = core::cell::RefCell::new(vec![]);
                        numbers.look_again(looks, |number| {
                            looked_at.borrow_mut().push(number);
                            linked.contains(&number)
                        });
                        let looked_at = looked_at.into_inner();
                        prop_assert_eq!(looked_at.iter().collect::<BTreeSet<_>>().len(), looks as usize, "each once");
                        for number in looked_at {
                            prop_assert!(held.contains(&number));
                            if !linked.contains(&number) {
                                held.remove(&number);
                                free.insert(number);
                            }
                        }
                    }
                    Action::FreeHeld => {
                        numbers.free_held();
                        free.append(&mut held);
                    }
                }
                prop_assert_eq!(numbers.held as usize, held.len());
            }
            let all = |bits: fn(&Word) -> u64| -> BTreeSet<u32> {
                numbers.words.iter().map(bits).enumerate().flat_map(|(index, bits)| super::numbers(index, bits)).collect()
            };
            prop_assert_eq!((all(|word| word.free), all(|word| word.held)), (free, held));
        }
    }
}
