//! A domain's memory with scattered machine frames, and a page walker that knows nothing of the builder.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::convert::Infallible;

use crate::{DomainMemory, Failure, Refusal};
use addresses::{Mfn, PAGE_SIZE, Pfn};

/// Machine frames are a permutation of the frames, above this.
const FIRST_MFN: u64 = 0x5_0000;
const ODD: u64 = 0x9e5;

/// Frames are zero until written.
pub struct FakeMemory {
    nr_pages: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_SIZE]>>,
}

/// A 4 KiB mapping that the walker found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub va: u64,
    pub pfn: u64,
    pub entry: u64,
    /// Writable at every level.
    pub writable: bool,
}

impl FakeMemory {
    pub fn new(nr_pages: u64) -> FakeMemory {
        FakeMemory { nr_pages, pages: BTreeMap::new() }
    }

    /// The frame behind a machine frame, which must be the domain's.
    pub fn pfn_of(&self, mfn: u64) -> u64 {
        let mask = self.nr_pages.next_power_of_two() - 1;
        // The inverse of ODD modulo 2^64, by Newton's iteration.
        let mut inverse = ODD;
        for _ in 0..6 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(ODD.wrapping_mul(inverse)));
        }
        let pfn = (mfn - FIRST_MFN).wrapping_mul(inverse) & mask;
        assert!(pfn < self.nr_pages, "mfn {mfn:#x} is not the domain's");
        pfn
    }

    pub fn is_untouched(&self) -> bool {
        self.pages.is_empty()
    }

    pub fn page(&self, pfn: u64) -> [u8; PAGE_SIZE] {
        assert!(pfn < self.nr_pages);
        self.pages.get(&pfn).map_or([0; PAGE_SIZE], |page| **page)
    }

    fn entries(&self, pfn: u64) -> Vec<u64> {
        self.page(pfn).chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    /// Every mapping below a top-level table, by ascending virtual address, and every table with its level.
    pub fn walk(&self, root: Mfn) -> (Vec<Mapping>, Vec<(u64, u32)>) {
        let (mut mappings, mut tables) = (Vec::new(), Vec::new());
        self.walk_table(self.pfn_of(root.0), 4, 0, true, &mut mappings, &mut tables);
        (mappings, tables)
    }

    fn walk_table(
        &self,
        table: u64,
        level: u32,
        va: u64,
        writable: bool,
        mappings: &mut Vec<Mapping>,
        tables: &mut Vec<(u64, u32)>,
    ) {
        tables.push((table, level));
        for (index, entry) in self.entries(table).into_iter().enumerate().filter(|(_, entry)| entry & 1 != 0) {
            let pfn = self.pfn_of((entry & 0x000f_ffff_ffff_f000) >> 12);
            let va = va | (index as u64) << (12 + 9 * (level - 1));
            let writable = writable && entry & 2 != 0;
            assert_eq!(entry & 0x80, 0, "superpage");
            if level > 1 {
                self.walk_table(pfn, level - 1, va, writable, mappings, tables);
            } else {
                // Sign-extend from bit 47.
                let va = ((va << 16).cast_signed() >> 16).cast_unsigned();
                mappings.push(Mapping { va, pfn, entry, writable });
            }
        }
    }
}

impl DomainMemory for FakeMemory {
    type Error = Infallible;

    fn mfn(&self, pfn: Pfn) -> Mfn {
        assert!(pfn.0 < self.nr_pages);
        Mfn(FIRST_MFN + (pfn.0.wrapping_mul(ODD) & (self.nr_pages.next_power_of_two() - 1)))
    }

    fn write(&mut self, pfn: Pfn, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        assert!(pfn.0 < self.nr_pages && !bytes.is_empty());
        let page = self.pages.entry(pfn.0).or_insert_with(|| Box::new([0; PAGE_SIZE]));
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn write_table_entry(&mut self, pfn: Pfn, index: usize, entry: u64) -> Result<(), Infallible> {
        let old = self.pages.get(&pfn.0).map(|page| &page[index * 8..][..8]);
        assert!(old.is_none_or(|old| old == [0; 8]), "entry {index} of pfn {pfn} is written twice");
        self.write(pfn, index * 8, &entry.to_le_bytes())
    }
}

/// What a kernel sees of its memory through the page tables it starts with.
pub struct View<'a> {
    memory: &'a FakeMemory,
    mappings: BTreeMap<u64, Mapping>,
}

impl<'a> View<'a> {
    pub fn new(memory: &'a FakeMemory, mappings: &[Mapping]) -> View<'a> {
        View { memory, mappings: mappings.iter().map(|mapping| (mapping.va, *mapping)).collect() }
    }

    pub fn mapping(&self, va: u64) -> Mapping {
        *self.mappings.get(&(va & !0xfff)).unwrap_or_else(|| panic!("{va:#x} is not mapped"))
    }

    pub fn read(&self, va: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = va + bytes.len() as u64;
            let offset = (at & 0xfff) as usize;
            let now = (len - bytes.len()).min(PAGE_SIZE - offset);
            bytes.extend_from_slice(&self.memory.page(self.mapping(at).pfn)[offset..offset + now]);
        }
        bytes
    }
}

/// What was refused, if it was: this memory can always be written.
pub fn built<T>(result: Result<T, Failure<Infallible>>) -> Result<T, Refusal> {
    result.map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal,
        Failure::Memory(error) => match error {},
    })
}
