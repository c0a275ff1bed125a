//! Which references of the domain's table are in use.

use alloc::vec::Vec;
use pv_abi::grant::GNTTAB_NR_RESERVED_ENTRIES;

/// References in a frame of the table.
pub const PER_FRAME: u32 = 512;

/// The references of a table that grows. The first few are the toolstack's, and never given out.
#[derive(Debug)]
pub struct References {
    free: Vec<u32>,
    count: u32,
}

impl References {
    /// A table without frames.
    pub const fn new() -> References {
        References { free: Vec::new(), count: 0 }
    }

    /// Frames that the table has.
    pub const fn frames(&self) -> u32 {
        self.count / PER_FRAME
    }

    /// The table has a frame more.
    pub fn add_frame(&mut self) {
        let first = self.count.max(GNTTAB_NR_RESERVED_ENTRIES);
        self.count += PER_FRAME;
        // Room for all that there are, so that taking one back never allocates.
        self.free.reserve(self.count as usize - self.free.len());
        self.free.extend((first..self.count).rev());
    }

    /// One that is not in use.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// One is not in use any more.
    ///
    /// # Panics
    /// If it was never given out.
    pub fn give_back(&mut self, reference: u32) {
        assert!((GNTTAB_NR_RESERVED_ENTRIES..self.count).contains(&reference), "reference {reference}");
        debug_assert!(!self.free.contains(&reference), "reference {reference} is given back twice");
        self.free.push(reference);
    }
}

impl Default for References {
    fn default() -> References {
        References::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn each_is_given_out_once(actions in prop::collection::vec((0..4u8, any::<usize>()), 0..3000)) {
            let mut references = References::new();
            let mut used = BTreeSet::new();
            for (action, which) in actions {
                match action {
                    0 if which % 400 == 0 => references.add_frame(),
                    0..3 => match references.take() {
                        Some(reference) => {
                            prop_assert!((8..512 * references.frames()).contains(&reference));
                            prop_assert!(used.insert(reference));
                        }
                        None => prop_assert_eq!(used.len() as u64, (512 * u64::from(references.frames())).saturating_sub(8)),
                    },
                    _ => if let Some(&reference) = used.iter().nth(which % used.len().max(1)) {
                        used.remove(&reference);
                        references.give_back(reference);
                    },
                }
            }
        }
    }
}
