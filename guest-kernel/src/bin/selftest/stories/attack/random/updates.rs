//! Random updates. After each step that was accepted, what must never be is looked for.

use super::super::writable::is_sealed;
use super::{Random, STEPS};
use crate::check::{Ending, Told, equal, fail, holds};
use crate::stories::mmu::emulated::assist;
use crate::stories::mmu::ground::*;
use alloc::format;
use alloc::vec::Vec;
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::paging::{PRESENT, USER, WRITABLE};
use guest_kernel::probe;
use pv_abi::mmu::MMU_PT_UPDATE_PRESERVE_AD;

/// Pages that tables are made of.
const PAGES: usize = 12;

/// Pages, of which some are tables at any time, and what the story knows about them.
struct World {
    random: Random,
    pages: Vec<Page>,
    /// Where the kernel has each of them mapped, and whether it may write there.
    writable: [bool; PAGES],
    /// The level that each is pinned at, or 0.
    pinned: [u32; PAGES],
}

/// Random pins, unpins, updates, mappings and stores to a handful of pages: whatever is accepted, no page that is a table
/// can be written, through any of its mappings.
pub fn told() -> Told {
    assist(true)?;
    for seed in [1, 2, 3] {
        let pages: Vec<_> = (0..PAGES).map(|_| Page::new()).collect();
        let random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut world = World { random, pages, writable: [true; PAGES], pinned: [0; PAGES] };
        let mut accepted = 0;
        for step in 0..STEPS {
            accepted += u32::from(world.step()?);
            if step % 64 == 0 {
                world.check()?;
            }
        }
        world.check()?;
        holds("next to nothing was accepted", accepted > STEPS / 20)?;
        world.take_apart()?;
    }
    assist(false)
}

impl World {
    /// One random step; whether it was accepted.
    fn step(&mut self) -> Result<bool, Ending> {
        let which = self.random.below(PAGES as u64);
        let index = usize::try_from(which).unwrap_or(0);
        let page = self.pages[index];
        let slot = page.slot(usize::try_from(self.random.pick(&[0, 0, 1, 2, 3, 255, 256, 300, 511])).unwrap_or(0));
        let value = self.value();
        let accepted = match self.random.below(10) {
            0 => {
                let level = self.random.pick(&[1, 1, 1, 2, 2, 3, 4]);
                let done = operate(pin(level, page.mfn)).is_ok();
                if done {
                    self.pinned[index] = level;
                }
                done
            }
            1 => {
                let done = operate(unpin(page.mfn)).is_ok();
                equal("unpin", done, self.pinned[index] > 0)?;
                self.pinned[index] = 0;
                done
            }
            2 => self.remap(index, WRITE),
            3 => self.remap(index, READ),
            4 => set(slot | MMU_PT_UPDATE_PRESERVE_AD, value).is_ok(),
            5 => {
                let at = page.address + slot % 4096;
                // SAFETY: the page is the story's; the store is made, emulated or refused.
                unsafe { probe::write(at, value) }.is_ok()
            }
            _ => set(slot, value).is_ok(),
        };
        Ok(accepted)
    }

    fn remap(&mut self, index: usize, flags: u64) -> bool {
        let page = self.pages[index];
        let done = map(page.address, page.entry(flags)).is_ok();
        if done {
            self.writable[index] = flags & WRITABLE != 0;
        }
        done
    }

    /// Something to put into a table: mostly an entry for one of the pages.
    fn value(&mut self) -> u64 {
        let page = self.random.pick(&self.pages.clone());
        let flags =
            self.random.pick(&[READ, READ, WRITE, TABLE, PRESENT, TABLE | LARGE, WRITE | USER, READ | NO_EXECUTE]);
        match self.random.below(16) {
            0 => 0,
            1 => self.random.next() << 20 | self.random.next(),
            2 => page.entry(flags & !PRESENT),
            3 => page.entry(flags) ^ 1 << self.random.below(64),
            _ => page.entry(flags),
        }
    }

    /// The level of each page that is a table, because it is pinned or named by one; 0 for the others.
    fn levels(&self) -> Result<[u32; PAGES], Ending> {
        let mut levels = self.pinned;
        for level in [4, 3, 2] {
            for index in (0..PAGES).filter(|index| levels[*index] == level).collect::<Vec<_>>() {
                for (slot, entry) in self.entries(index) {
                    let Some(child) = self.page_of(entry) else { continue };
                    let hidden = level == 4 && (256..272).contains(&slot);
                    // Xen lets a table name one of its own level.
                    if !hidden && levels[child] != level {
                        holds("a table of two levels", levels[child] == 0 || levels[child] == level - 1)?;
                        levels[child] = level - 1;
                    }
                }
            }
        }
        Ok(levels)
    }

    /// No table is mapped writable, neither where the kernel has it nor by any entry of any table of level 1.
    fn check(&self) -> Told {
        let levels = self.levels()?;
        for index in (0..PAGES).filter(|index| levels[*index] > 0) {
            holds("a table is mapped writable", !self.writable[index])?;
            is_sealed(self.pages[index])?;
            for (slot, entry) in self.entries(index).filter(|_| levels[index] == 1) {
                let target = self.page_of(entry).filter(|target| levels[*target] > 0);
                if target.is_some() && entry & WRITABLE != 0 {
                    return fail(&format!("entry {slot} of table {index} maps table {target:?} writable: {entry:#x}"));
                }
            }
        }
        Ok(())
    }

    /// The present entries of a page, if it is a table.
    fn entries(&self, index: usize) -> impl Iterator<Item = (usize, u64)> {
        let page = self.pages[index];
        (0..512).map(move |slot| (slot, page.read(slot))).filter(|(_, entry)| entry & PRESENT != 0)
    }

    /// Which of the pages an entry names.
    fn page_of(&self, entry: u64) -> Option<usize> {
        self.pages.iter().position(|page| page.mfn == entry >> 12 & 0xff_ffff_ffff)
    }

    /// All pages become plain ones again, for nothing is left that holds them.
    fn take_apart(&mut self) -> Told {
        for (index, page) in self.pages.iter().enumerate() {
            if self.pinned[index] > 0 {
                equal("unpin", operate(unpin(page.mfn)), Ok(0))?;
            }
        }
        self.pages.iter().try_for_each(|page| page.unprotect())
    }
}
