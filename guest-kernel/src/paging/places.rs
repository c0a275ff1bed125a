//! Places in a range of addresses, given out and taken back. Pure.

use alloc::vec::Vec;
use core::ops::Range;

/// A range of addresses, some of which are taken.
#[derive(Clone, Debug)]
pub struct Places {
    whole: Range<u64>,
    /// What is taken, in the order of addresses. None overlap.
    taken: Vec<Range<u64>>,
}

impl Places {
    /// All of `whole` is free.
    pub const fn new(whole: Range<u64>) -> Places {
        Places { whole, taken: Vec::new() }
    }

    /// Takes the first free place of `bytes`.
    pub fn take(&mut self, bytes: u64) -> Option<Range<u64>> {
        let mut start = self.whole.start;
        let mut index = 0;
        while let Some(next) = self.taken.get(index)
            && next.start - start < bytes
        {
            start = next.end;
            index += 1;
        }
        let end = start.checked_add(bytes).filter(|end| *end <= self.whole.end && bytes > 0)?;
        self.taken.insert(index, start..end);
        Some(start..end)
    }

    /// Takes a place back that was given out.
    ///
    /// # Panics
    /// If it wasn't.
    pub fn give_back(&mut self, place: &Range<u64>) {
        let index = self.taken.iter().position(|taken| taken == place).expect("a place that was given out");
        self.taken.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_gap_that_is_large_enough() {
        let mut places = Places::new(100..200);
        let [a, b, c] = [30, 10, 30].map(|bytes| places.take(bytes).unwrap());
        assert_eq!((&a, &b, &c), (&(100..130), &(130..140), &(140..170)));
        places.give_back(&b);
        assert_eq!(places.take(11), Some(170..181));
        assert_eq!(places.take(10), Some(b));
        assert_eq!(places.take(20), None);
        assert_eq!(places.take(u64::MAX), None);
        assert_eq!(places.take(0), None);
    }

    proptest! {
        #[test]
        fn none_overlap_and_all_comes_back(steps in prop::collection::vec((0u64..40, any::<prop::sample::Index>()), 0..60)) {
            let mut places = Places::new(1000..1200);
            let mut held: Vec<Range<u64>> = Vec::new();
            for (bytes, which) in steps {
                if bytes < 10 && !held.is_empty() {
                    places.give_back(&held.swap_remove(which.index(held.len())));
                } else if let Some(place) = places.take(bytes) {
                    prop_assert!(place.start >= 1000 && place.end <= 1200 && place.end - place.start == bytes);
                    prop_assert!(held.iter().all(|other| other.end <= place.start || place.end <= other.start));
                    held.push(place);
                }
            }
            held.iter().for_each(|place| places.give_back(place));
            prop_assert_eq!(places.take(200), Some(1000..1200));
        }
    }
}
