//! Which pages of the window are in use: runs of pages, found first-fit from where the last one ended.

use alloc::vec::Vec;

/// Pages of a window, a bit for each that is in use.
#[derive(Debug)]
pub struct Pages {
    used: Vec<u64>,
    next: usize,
}

impl Pages {
    /// A window of `count` pages, a multiple of 64.
    ///
    /// # Panics
    /// If it is none.
    pub fn new(count: usize) -> Pages {
        assert!(count.is_multiple_of(64));
        Pages { used: alloc::vec![0; count / 64], next: 0 }
    }

    fn count(&self) -> usize {
        64 * self.used.len()
    }

    fn is_used(&self, page: usize) -> bool {
        self.used[page / 64] >> (page % 64) & 1 != 0
    }

    /// Takes `len` pages in a row; the first of them.
    pub fn take(&mut self, len: usize) -> Option<usize> {
        let first = self.find(self.next..self.count(), len).or_else(|| self.find(0..self.count(), len))?;
        (first..first + len).for_each(|page| self.used[page / 64] |= 1 << (page % 64));
        self.next = first + len;
        Some(first)
    }

    /// Gives pages back.
    ///
    /// # Panics
    /// If one isn't in use.
    pub fn give_back(&mut self, first: usize, len: usize) {
        for page in first..first + len {
            assert!(self.is_used(page), "page {page} is not in use");
            self.used[page / 64] &= !(1 << (page % 64));
        }
    }

    fn find(&self, range: core::ops::Range<usize>, len: usize) -> Option<usize> {
        let mut run = 0;
        for page in range {
            run = if self.is_used(page) { 0 } else { run + 1 };
            if run >= len {
                return Some(page + 1 - run);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_do_not_overlap(actions in prop::collection::vec((1..20usize, any::<usize>()), 0..200)) {
            let mut pages = Pages::new(128);
            let mut model = [false; 128];
            let mut runs = Vec::new();
            for (len, which) in actions {
                if which % 3 == 0 && !runs.is_empty() {
                    let (first, len) = runs.swap_remove(which % runs.len());
                    pages.give_back(first, len);
                    model[first..first + len].fill(false);
                    continue;
                }
                match pages.take(len) {
                    Some(first) => {
                        prop_assert!(model[first..first + len].iter().all(|used| !used));
                        model[first..first + len].fill(true);
                        runs.push((first, len));
                    }
                    None => prop_assert!(!model.windows(len).any(|run| run.iter().all(|used| !used))),
                }
            }
        }
    }
}
