//! Attacks by chance: long runs of random updates and calls, from seeds that don't change. After each step that was
//! accepted, what must never be is looked for.

use super::writable::is_sealed;
use crate::check::{Ending, HYPERVISOR, M2P, NON_CANONICAL, Told, call, equal, fail, holds, skip};
use crate::stories::mmu::emulated::assist;
use crate::stories::mmu::ground::*;
use alloc::format;
use alloc::vec::Vec;
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::paging::{PRESENT, USER, WRITABLE};
use guest_kernel::{memory, probe, trap};
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall::*;
use pv_abi::mmu::MMU_PT_UPDATE_PRESERVE_AD;
use pv_abi::version::XENVER_PAGESIZE;

/// Steps of a run.
const STEPS: u32 = 20_000;
/// Pages that tables are made of.
const PAGES: usize = 12;

/// Random numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        // The remainder is an index.
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}

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
pub fn updates() -> Told {
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

/// Numbers that hypercalls may make something of.
const WORDS: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    0xfff,
    0x1000,
    0x7ff0,
    0x8000_0001,
    0xffff_ffff,
    NON_CANONICAL,
    HYPERVISOR,
    M2P,
    0xffff_8080_0000_0000,
    0xffff_87ff_ffff_fff8,
    0x7fff_ffff_fff8,
    1 << 63,
    u64::MAX,
];

/// Random arguments to the calls about memory and the CPU, in registers and in a page that is read and written. No
/// number names a frame of the domain's own, which could be the end of the story.
pub fn calls() -> Told {
    if is_privileged() {
        return skip("this domain could do harm by chance");
    }
    const NUMBERS: [u32; 14] = [
        MMU_UPDATE,
        MMU_UPDATE,
        MMUEXT_OP,
        MMUEXT_OP,
        UPDATE_VA_MAPPING_OTHERDOMAIN,
        UPDATE_DESCRIPTOR,
        SET_GDT,
        MEMORY_OP,
        MEMORY_OP,
        SET_DEBUGREG,
        GET_DEBUGREG,
        SET_SEGMENT_BASE,
        FPU_TASKSWITCH,
        PHYSDEV_OP,
    ];
    trap::set_handler(1, Some(|frame| frame.rflags |= 1 << 16));
    let mut random = Random(0x1234_5678_9abc_def1);
    let (arguments, results) = (Page::new(), Page::new());
    for step in 0..STEPS {
        for _ in 0..4 {
            let index = usize::try_from(random.below(24)).unwrap_or(0);
            let word = word(&mut random, arguments, results);
            arguments.write(index, word);
        }
        let number = random.pick(&NUMBERS);
        let list = [(); 5].map(|()| word(&mut random, arguments, results));
        let args = match random.below(3) {
            // As the call wants them: a list, a count, a place for the result.
            0 => [arguments.address, random.below(4), results.address, u64::from(DOMID_SELF), 0],
            1 => [random.below(16), arguments.address, list[2], list[3], 0],
            _ => list,
        };
        let _ = call(number, args);
        // The call may have mapped something else there.
        [arguments, results].into_iter().try_for_each(Page::unprotect)?;
        if step % 256 == 0 {
            still_works()?;
        }
    }
    equal("no GDT", call(SET_GDT, [0, 0]), Ok(0))?;
    equal("no breakpoints", call(SET_DEBUGREG, [7, 0]), Ok(0))?;
    trap::set_handler(1, None);
    still_works()
}

/// A number that some call may take for an address, a frame, a count, a command.
fn word(random: &mut Random, arguments: Page, results: Page) -> u64 {
    loop {
        let word = match random.below(8) {
            0..=2 => random.pick(&WORDS),
            3 => arguments.address + 8 * random.below(64),
            4 => results.address + random.below(4096),
            5 => random.below(1 << 17) << 12 | random.below(4096),
            6 => random.below(1 << 17),
            _ => random.next(),
        };
        let is_own = |mfn: u64| memory::address_of_frame(mfn).is_some();
        if !is_own(word) && !is_own(word >> 12) {
            return word;
        }
    }
}

fn still_works() -> Told {
    equal("a trap", probe::int3().map(|caught| caught.vector), Some(3))?;
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}
