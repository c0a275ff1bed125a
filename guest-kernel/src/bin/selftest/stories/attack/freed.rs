//! Frames that the domain gives back while something relies on them: they must not come to anybody else, and not change.

use super::writable::is_sealed;
use crate::check::{Told, equal, holds};
use crate::stories::mmu::descriptors::{SEGMENT, gdt, segment};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::reservation::give;
use crate::stories::mmu::roots::copy_of_root;
use alloc::vec::Vec;
use guest_kernel::hypercall;
use guest_kernel::hypercall::mmuext::{new_base, new_user_base, pin, unpin};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::{memory, probe};

const JUNK: u64 = 0x5a5a_5a5a_5a5a_5a07;

/// Takes frames, fills them with what looks like page-table entries, and gives them back. None may be one of `watched`.
fn take_and_spoil(count: u64, watched: &[Page]) -> Told {
    let mut frames = alloc::vec![0; usize::try_from(count).unwrap_or(0)];
    let got = hypercall::increase_reservation(&mut frames, 0, 0).unwrap_or(0);
    let window = Page::new();
    let frames = &frames[..usize::try_from(got).unwrap_or(0)];
    for mfn in frames {
        holds("a frame in use came back", watched.iter().all(|page| page.mfn != *mfn))?;
        let page = Page { mfn: *mfn, ..window };
        page.unprotect()?;
        (0..512).for_each(|index| page.write(index, JUNK));
    }
    window.unprotect()?;
    equal("give back", give(frames), Ok(got))
}

fn words(pages: &[Page]) -> Vec<[u64; 512]> {
    // Without the bits that the CPU sets on its own.
    pages.iter().map(|page| core::array::from_fn(|index| page.read(index) & !(ACCESSED | DIRTY))).collect()
}

/// Tables of an address space in use, pinned or not.
pub fn tables() -> Told {
    for pinned in [true, false] {
        let tree = Tree::hooked()?;
        tree.data.write(0, 5);
        if pinned {
            equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
            equal("pin", operate(pin(1, tree.l1.mfn)), Ok(0))?;
        }
        let tables = [tree.l3, tree.l2, tree.l1];
        let before = words(&tables);
        for table in tables {
            equal("give", give(&[table.mfn]), Ok(1))?;
            take_and_spoil(1, &tables)?;
        }
        equal("words of the tables", words(&tables) == before, true)?;
        tables.into_iter().try_for_each(is_sealed)?;
        flush()?;
        equal("word behind them", probe::read(WINDOW), Ok(5))?;
        equal("take them out", set(root_slot(WINDOW_SLOT), 0), Ok(0))?;
        if pinned {
            // The pins may have gone with the frames.
            let _ = [operate(unpin(tree.l4.mfn)), operate(unpin(tree.l1.mfn))];
        }
    }
    Ok(())
}

/// The root in use, and the user's.
pub fn roots() -> Told {
    let before = root();
    let own = copy_of_root()?;
    let user = Tree::protected()?;
    equal("user root", operate(new_user_base(user.l4.mfn)), Ok(0))?;
    equal("switch", operate(new_base(own.mfn)), Ok(0))?;
    let tables = [own, user.l4, user.l3];
    let contents = words(&tables);
    for table in tables {
        equal("give", give(&[table.mfn]), Ok(1))?;
        take_and_spoil(1, &tables)?;
    }
    flush()?;
    equal("words of the tables", words(&tables) == contents, true)?;
    tables.into_iter().try_for_each(is_sealed)?;
    equal("CR3", root(), own.mfn)?;
    equal("switch back", operate(new_base(before)), Ok(0))?;
    equal("no user root", operate(new_user_base(0)), Ok(0))
}

/// A descriptor page in use.
pub fn descriptors() -> Told {
    let page = Page::read_only(&[0, SEGMENT])?;
    equal("GDT", gdt(&[page.mfn], 512), Ok(0))?;
    equal("give", give(&[page.mfn]), Ok(1))?;
    equal("unmap", map(page.address, 0), Ok(0))?;
    take_and_spoil(4, &[page])?;
    equal("the segment", segment(0x0b).is_some(), true)?;
    equal("another entry", segment(0x13), None)?;
    equal("no GDT", gdt(&[], 0), Ok(0))
}

/// A page that is mapped, and a stale translation of one that no longer is.
pub fn data() -> Told {
    let page = Page::new();
    (0..512).for_each(|index| page.write(index, index as u64));
    equal("give", give(&[page.mfn]), Ok(1))?;
    take_and_spoil(4, &[page])?;
    holds("words", (0..512).all(|index| page.read(index) == index as u64))?;
    // The translation is in the TLB; the entry goes without a flush, and the frame with it.
    // SAFETY: the page is the story's.
    let unmapped = unsafe { hypercall::update_va_mapping(page.address, 0, hypercall::Flush::None) };
    equal("unmap", unmapped, Ok(0))?;
    let mut frames = [0; 8];
    let got = hypercall::increase_reservation(&mut frames, 0, 0).unwrap_or(0);
    let window = Page::new();
    for mfn in &frames[..usize::try_from(got).unwrap_or(0)] {
        let fresh = Page { mfn: *mfn, ..window };
        fresh.unprotect()?;
        fresh.write(0, JUNK);
        // If this is the same frame, the old translation shows it: by now somebody else could own it.
        holds("the old translation is alive", probe::read(page.address) != Ok(JUNK))?;
        fresh.write(0, 0);
    }
    window.unprotect()?;
    equal("give back", give(&frames[..usize::try_from(got).unwrap_or(0)]), Ok(got))
}

/// Frames that were never the domain's, and the same frame twice.
pub fn others() -> Told {
    let page = Page::new();
    let slot = memory::machine_frame_at(page.address).unwrap_or(0) * PAGE_SIZE;
    equal("unmap", map(page.address, 0), Ok(0))?;
    let twice = give(&[page.mfn, page.mfn]);
    equal("twice in one list", twice, Ok(1))?;
    equal("once more", give(&[page.mfn]), Ok(0))?;
    holds("a store to it", set(slot, 1).is_err())?;
    for level in 1..=4 {
        holds("a pin", operate(pin(level, page.mfn)).is_err())?;
    }
    holds("as GDT", gdt(&[page.mfn], 1).is_err())?;
    holds("as root", operate(new_base(page.mfn)).is_err())
}
