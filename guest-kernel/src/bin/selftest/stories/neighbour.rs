//! The domain beside an attacker: it fills its memory with a pattern, reads it back, and does so until a key is pressed.

use super::mmu::ground::{Page, TABLE, WINDOW, WINDOW_SLOT, WRITE, root_slot, set};
use crate::check::{Ending, Told, equal, holds};
use alloc::vec::Vec;
use core::ops::Range;
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::{VIRT_BASE, image, start_info};
use guest_kernel::{console, memory, println};

/// Rounds between two lines on the console.
const REPORT: u64 = 64;

/// Checks all that the domain has, again and again. After a key one more round is made, so that what happened until
/// then is found.
pub fn watch() -> Told {
    let frames = spare_frames();
    let pattern = map_all(&frames)?;
    let still = checksum();
    println!("checking {} pages", frames.len());
    fill(&pattern, 0);
    for round in 0.. {
        let is_last = console::key().is_some();
        check(&pattern, round)?;
        equal("checksum of code, tables and start-of-day pages", checksum(), still)?;
        if is_last {
            println!("{round} rounds, all words as they were");
            break;
        }
        if round % REPORT == REPORT - 1 {
            println!("round {round}: all words as they were");
        }
        fill(&pattern, round + 1);
    }
    Ok(())
}

/// The machine frames that the builder mapped nowhere.
fn spare_frames() -> Vec<u64> {
    let info = start_info();
    let p2m = info.first_p2m_pfn..info.first_p2m_pfn + info.nr_p2m_frames;
    let behind_the_mapping = (memory::mapped_end() - VIRT_BASE) / PAGE_SIZE;
    (behind_the_mapping..info.nr_pages).filter(|pfn| !p2m.contains(pfn)).filter_map(memory::machine_frame).collect()
}

/// Maps the frames at [`WINDOW`], one after the other.
fn map_all(frames: &[u64]) -> Result<Range<u64>, Ending> {
    let table = |entries: &[u64]| Page::read_only(entries);
    let mut level1 = Vec::new();
    for chunk in frames.chunks(512) {
        let entries: Vec<_> = chunk.iter().map(|mfn| mfn << 12 | WRITE).collect();
        level1.push(table(&entries)?.entry(TABLE));
    }
    holds("too many frames", level1.len() <= 512)?;
    let level2 = table(&level1)?.entry(TABLE);
    let level3 = table(&[level2])?.entry(TABLE);
    equal("map all frames", set(root_slot(WINDOW_SLOT), level3), Ok(0))?;
    Ok(WINDOW..WINDOW + frames.len() as u64 * PAGE_SIZE)
}

/// What is at an address in a round: each word is another, and another in each round.
fn word(address: u64, round: u64) -> u64 {
    (address ^ round << 44).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn fill(pattern: &Range<u64>, round: u64) {
    for address in pattern.clone().step_by(8) {
        // SAFETY: the window maps frames that nothing else uses.
        unsafe { (address as *mut u64).write_volatile(word(address, round)) };
    }
}

fn check(pattern: &Range<u64>, round: u64) -> Told {
    for address in pattern.clone().step_by(8) {
        // SAFETY: the window is mapped.
        let found = unsafe { (address as *const u64).read_volatile() };
        if found != word(address, round) {
            return equal(&alloc::format!("word at {address:#x}"), found, word(address, round));
        }
    }
    Ok(())
}

/// A sum over code and constants, start info, page tables and the physical-to-machine table, none of which changes.
fn checksum() -> u64 {
    unsafe extern "C" {
        static __text_end: u8;
    }
    let info = start_info();
    let start_info_page = core::ptr::from_ref(info) as u64;
    let page_tables = info.pt_base..info.pt_base + info.nr_pt_frames * PAGE_SIZE;
    // The CPU sets accessed and dirty bits on its own.
    let parts = [
        (image().start..&raw const __text_end as u64 & !7, u64::MAX),
        (start_info_page..start_info_page + PAGE_SIZE, u64::MAX),
        (page_tables, !0x60),
        (info.mfn_list..info.mfn_list + 8 * info.nr_pages, u64::MAX),
    ];
    let words = parts.into_iter().flat_map(|(range, mask)| range.step_by(8).map(move |address| (address, mask)));
    words.fold(0, |sum: u64, (address, mask)| {
        // SAFETY: all parts are mapped as long as the domain lives.
        let word = unsafe { (address as *const u64).read_volatile() } & mask;
        sum.rotate_left(5).wrapping_add(word)
    })
}
