//! TLBs of several vCPUs.

use super::start_all;
use crate::check::{Ending, Told, equal, holds};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guest_kernel::hypercall::{self, Flush, Vcpus, mmuext};
use guest_kernel::memory::{self, KERNEL_PAGES};
use guest_kernel::paging::{PAGE_BYTES, PAGE_SIZE, Rights};
use guest_kernel::{probe, smp};

use crate::stories::mmu::ground::{Page, TABLE, Tree, WINDOW, WINDOW_SLOT, WRITE, operate, root_slot, set};

fn refusal(error: memory::Error) -> Ending {
    Ending::Fail(alloc::format!("memory: {error}"))
}

/// When a mapping has changed and all vCPUs' TLBs are flushed, none of them sees the old page.
pub fn shootdown() -> Told {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    static STALE: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let count = start_all()?;
    let window = KERNEL_PAGES.start;
    memory::lock().map_err(refusal)?.map(window..window + PAGE_SIZE, Rights::Write).map_err(refusal)?;
    let pages = [Page::new(), Page::new()];
    let remap = |page: Page| {
        // SAFETY: the window is the story's.
        unsafe { hypercall::update_va_mapping(window, page.entry(WRITE), Flush::Address(Vcpus::All)) }
    };
    equal("map", remap(pages[0]), Ok(0))?;
    for id in 1..count {
        smp::run_on(id, move || {
            while !STOP.load(SeqCst) {
                let round = ROUND.load(SeqCst);
                // SAFETY: the window is mapped.
                let seen = unsafe { (window as *const u64).read_volatile() };
                if seen < round {
                    STALE.fetch_add(1, SeqCst);
                }
            }
        });
    }
    for (round, page) in (1..=300u64).zip(pages.into_iter().cycle()) {
        page.write(0, round);
        equal("map", remap(page), Ok(0))?;
        ROUND.store(round, SeqCst);
    }
    STOP.store(true, SeqCst);
    smp::everywhere(count, |_| ());
    equal("old pages seen", STALE.load(SeqCst), 0)
}

/// An entry of the root table that becomes present needs no flush to be used by all vCPUs. One that is taken away is used by
/// none when its address, or everything, is flushed.
pub fn root_entries() -> Told {
    let count = start_all()?;
    let tree = Tree::protected()?;
    let read_everywhere = || smp::everywhere(count, |_| probe::read(WINDOW));
    for round in 1..=20u64 {
        tree.data.write(0, round);
        equal("enter a table", set(root_slot(WINDOW_SLOT), tree.l3.entry(TABLE)), Ok(0))?;
        equal("word behind it, here", probe::read(WINDOW), Ok(round))?;
        holds("and everywhere", read_everywhere().iter().all(|read| *read == Ok(round)))?;
        equal("take it away", set(root_slot(WINDOW_SLOT), 0), Ok(0))?;
        if round % 2 == 0 {
            equal("flush everything", operate(mmuext::flush_all()), Ok(0))?;
        } else {
            let told = smp::everywhere(count, |_| operate(mmuext::flush_address_here(WINDOW)));
            holds("flush the address", told.iter().all(|told| *told == Ok(0)))?;
        }
        holds("it is gone everywhere", read_everywhere().iter().all(|read| read.is_err()))?;
    }
    Ok(())
}

/// All vCPUs map and unmap pages at once.
pub fn mapping() -> Told {
    const PAGES: u64 = 16;
    let count = start_all()?;
    let free = memory::lock().map_err(refusal)?.free_frames();
    let told: Vec<Result<bool, memory::Error>> = smp::everywhere(count, |id| {
        let start = KERNEL_PAGES.start + (u64::from(id) << 21);
        let pages = start..start + PAGES * PAGE_SIZE;
        let mut good = true;
        for round in 0..20 {
            memory::lock()?.map(pages.clone(), Rights::Write)?;
            for address in pages.clone().step_by(PAGE_BYTES) {
                // SAFETY: the page was mapped just now, for this vCPU.
                good &= unsafe { probe::write(address, address + round) }.is_ok();
                good &= probe::read(address) == Ok(address + round);
            }
            // SAFETY: nothing uses the pages.
            unsafe { memory::lock()?.unmap(pages.clone()) }?;
            good &= probe::read(start).is_err();
        }
        Ok(good)
    });
    holds("pages are as written, and gone when unmapped", told.iter().all(|told| *told == Ok(true)))?;
    let left = memory::lock().map_err(refusal)?.free_frames();
    // Tables stay.
    holds("frames are back", left <= free && free - left <= count + 2)
}
