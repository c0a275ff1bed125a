//! Which machine frames a domain's memory is made of.

use alloc::vec::Vec;

use addresses::{Mfn, Pfn};

/// Runs of machine frames, in the order of their pfns, without gaps.
#[derive(Clone, Default, Debug)]
pub struct Extents {
    runs: Vec<Run>,
    frames: u64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    pfn: u64,
    mfn: u64,
}

impl Extents {
    /// No memory.
    pub const fn new() -> Extents {
        Extents { runs: Vec::new(), frames: 0 }
    }

    /// Adds the frames from `first` on behind those that are there.
    pub fn push(&mut self, first: Mfn, frames: u64) {
        let follows = self.runs.last().is_some_and(|run| run.mfn + (self.frames - run.pfn) == first.0);
        if !follows {
            self.runs.push(Run { pfn: self.frames, mfn: first.0 });
        }
        self.frames += frames;
    }

    /// How many frames there are.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// The machine frame behind a frame.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn mfn(&self, pfn: Pfn) -> Mfn {
        assert!(pfn.0 < self.frames, "pfn {pfn} of {}", self.frames);
        let run = self.runs[self.index(pfn)];
        Mfn(run.mfn + (pfn.0 - run.pfn))
    }

    /// The machine frame numbers of consecutive frames.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn mfns(&self, first: Pfn, into: &mut [u64]) {
        assert!(first.0 + into.len() as u64 <= self.frames);
        let mut index = self.index(first);
        for (pfn, slot) in (first.0..).zip(into) {
            if self.runs.get(index + 1).is_some_and(|next| next.pfn == pfn) {
                index += 1;
            }
            *slot = self.runs[index].mfn + (pfn - self.runs[index].pfn);
        }
    }

    /// The run of a frame that there is.
    fn index(&self, pfn: Pfn) -> usize {
        self.runs.partition_point(|run| run.pfn <= pfn.0).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    proptest! {
        #[test]
        fn as_a_list_of_frames(runs in prop::collection::vec((0u64..3, 1u64..50), 1..20), start: prop::sample::Index) {
            let (mut extents, mut list, mut next) = (Extents::new(), Vec::new(), 1000);
            for (gap, frames) in runs {
                let first = next + gap;
                extents.push(Mfn(first), frames);
                list.extend(first..first + frames);
                next = first + frames;
            }
            prop_assert_eq!(extents.frames(), list.len() as u64);
            for (pfn, mfn) in list.iter().enumerate() {
                prop_assert_eq!(extents.mfn(Pfn(pfn as u64)), Mfn(*mfn));
            }
            let start = start.index(list.len());
            let mut some = vec![0; list.len() - start];
            extents.mfns(Pfn(start as u64), &mut some);
            prop_assert_eq!(&some, &list[start..]);
        }
    }
}
