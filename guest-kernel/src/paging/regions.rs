//! What an address space has where: ranges of pages with their rights, whether or not the pages are there yet.

use super::{PAGE_SIZE, Rights};
use alloc::vec::Vec;
use core::ops::Range;

/// Pages with the same rights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Their addresses.
    pub range: Range<u64>,
    /// What may be done with them.
    pub rights: Rights,
}

/// The range overlaps with a region, is empty, has no page boundaries, or goes beyond the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsuitable;

/// Regions that don't overlap, in the order of their addresses.
#[derive(Clone, Debug)]
pub struct Regions {
    regions: Vec<Region>,
    limit: u64,
}

impl Regions {
    /// No regions, and none to come above `limit`.
    pub const fn new(limit: u64) -> Regions {
        Regions { regions: Vec::new(), limit }
    }

    /// Adds a region.
    ///
    /// # Errors
    /// When it doesn't suit.
    pub fn add(&mut self, range: Range<u64>, rights: Rights) -> Result<(), Unsuitable> {
        let aligned = range.start.is_multiple_of(PAGE_SIZE) && range.end.is_multiple_of(PAGE_SIZE);
        let place = self.regions.partition_point(|region| region.range.end <= range.start);
        let free = self.regions.get(place).is_none_or(|next| range.end <= next.range.start);
        if !aligned || !free || range.is_empty() || range.end > self.limit {
            return Err(Unsuitable);
        }
        self.regions.insert(place, Region { range, rights });
        Ok(())
    }

    /// Moves the end of the region that starts at `start` up by `bytes`. The answer is where it was.
    ///
    /// # Errors
    /// When there is no such region, or the longer one doesn't suit.
    pub fn grow(&mut self, start: u64, bytes: u64) -> Result<u64, Unsuitable> {
        let place = self.regions.iter().position(|region| region.range.start == start).ok_or(Unsuitable)?;
        let end = self.regions[place].range.end;
        let new = end.checked_add(bytes).filter(|new| *new <= self.limit).ok_or(Unsuitable)?;
        let free = self.regions.get(place + 1).is_none_or(|next| new <= next.range.start);
        if !free || !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(Unsuitable);
        }
        self.regions[place].range.end = new;
        Ok(end)
    }

    /// The region that an address is in.
    pub fn at(&self, address: u64) -> Option<&Region> {
        let place = self.regions.partition_point(|region| region.range.end <= address);
        self.regions.get(place).filter(|region| region.range.contains(&address))
    }

    /// All regions.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LIMIT: u64 = 40 * PAGE_SIZE;

    proptest! {
        #[test]
        fn pages_have_the_rights_they_were_given(
            actions in prop::collection::vec((0..44u64, 0..8u64, 0..4), 0..24),
        ) {
            let mut regions = Regions::new(LIMIT);
            // Page -> rights and the start of its region.
            let mut model = BTreeMap::new();
            for (start, pages, kind) in actions {
                let address = start * PAGE_SIZE;
                let suits = |from: u64, model: &BTreeMap<u64, (Rights, u64)>| {
                    from + pages <= 40 && (from..from + pages).all(|page| !model.contains_key(&page))
                };
                let rights = match kind {
                    0 => Rights::Read,
                    1 => Rights::Write,
                    2 => Rights::Execute,
                    _ => {
                        let end = model.iter().filter(|(_, (_, from))| *from == start).map(|(page, _)| page + 1).max();
                        let grown = regions.grow(address, pages * PAGE_SIZE);
                        let Some(end) = end.filter(|end| suits(*end, &model)) else {
                            prop_assert_eq!(grown, Err(Unsuitable));
                            continue;
                        };
                        prop_assert_eq!(grown, Ok(end * PAGE_SIZE));
                        let rights = model[&start].0;
                        model.extend((end..end + pages).map(|page| (page, (rights, start))));
                        continue;
                    }
                };
                let added = regions.add(address..address + pages * PAGE_SIZE, rights);
                if pages > 0 && suits(start, &model) {
                    prop_assert_eq!(added, Ok(()));
                    model.extend((start..start + pages).map(|page| (page, (rights, start))));
                } else {
                    prop_assert_eq!(added, Err(Unsuitable));
                }
            }
            for page in 0..44 {
                let here = regions.at(page * PAGE_SIZE + 7).map(|region| (region.rights, region.range.start / PAGE_SIZE));
                prop_assert_eq!(here, model.get(&page).copied());
            }
        }
    }

    #[test]
    fn only_whole_pages() {
        let mut regions = Regions::new(LIMIT);
        assert_eq!(regions.add(1..PAGE_SIZE, Rights::Read), Err(Unsuitable));
        assert_eq!(regions.add(0..PAGE_SIZE - 1, Rights::Read), Err(Unsuitable));
        assert_eq!(regions.add(0..PAGE_SIZE, Rights::Read), Ok(()));
        assert_eq!(regions.grow(0, 1), Err(Unsuitable));
        assert_eq!(regions.grow(0, u64::MAX - 4095), Err(Unsuitable));
    }
}
