//! Large pages map memory that nobody checked, and reserved bits make the CPU or the hypervisor stumble (XSA-148).

use super::writable::tables_in_use;
use crate::check::{Told, equal, holds, refused};
use crate::stories::mmu::ground::*;
use guest_kernel::hypercall::Answer;
use guest_kernel::hypercall::mmuext::pin;
use guest_kernel::paging::PRESENT;
use pv_abi::errno::Errno;
use pv_abi::mmu::MMU_PT_UPDATE_PRESERVE_AD;

fn is_refused(what: &str, answer: Answer) -> Told {
    holds(what, matches!(answer, Err(Errno::EINVAL | Errno::EPERM | Errno::EBUSY)))
}

/// The large-page bit at levels 2, 3 and 4: in a new entry, as a change of an entry that is there, and in a table that
/// comes into use as a whole. With frames of ours, others', and none.
pub fn large_pages() -> Told {
    let tree = tables_in_use()?;
    let page = Page::new();
    for (slot, child) in [(tree.l2.slot(0), tree.l1), (tree.l3.slot(0), tree.l2), (root_slot(WINDOW_SLOT), tree.l3)] {
        let other = slot + 8;
        for mfn in [child.mfn, page.mfn, page.mfn & !511, 0, 1 << 18, 0xff_ffff_fe00] {
            for flags in [TABLE, TABLE & !guest_kernel::paging::WRITABLE, TABLE | DIRTY | 1 << 9] {
                for at in [slot, other] {
                    is_refused("large page", set(at, mfn << 12 | flags | LARGE))?;
                    is_refused("large page", set(at | MMU_PT_UPDATE_PRESERVE_AD, mfn << 12 | flags | LARGE))?;
                }
            }
        }
    }
    equal("entries", [tree.l2.read(0) & LARGE, tree.l3.read(0) & LARGE], [0, 0])?;
    equal("word behind them", guest_kernel::probe::read(WINDOW), Ok(0))?;
    for level in 2..=4 {
        for entry in [page.entry(TABLE | LARGE), page.mfn >> 9 << 21 | TABLE | LARGE, TABLE | LARGE] {
            let table = Page::read_only(&[entry])?;
            is_refused("a table with a large page", operate(pin(level, table.mfn)))?;
            table.unprotect()?;
        }
    }
    Ok(())
}

/// Every bit that no entry may have, at every level, in every way.
pub fn reserved_bits() -> Told {
    let tree = tables_in_use()?;
    let children = [(tree.l2, tree.l1), (tree.l3, tree.l2)];
    for bit in [3, 4, 7, 8] {
        for (level, (table, child)) in (2..).zip(children) {
            for index in [0, 1] {
                let answer = set(table.slot(index), child.entry(TABLE | 1 << bit));
                refused("reserved bit", answer, Errno::EINVAL)?;
            }
            let whole = Page::read_only(&[child.entry(TABLE | 1 << bit)])?;
            is_refused("a table with it", operate(pin(level, whole.mfn)))?;
            whole.unprotect()?;
        }
    }
    // Address bits that this CPU doesn't have.
    let page = Page::new();
    for bit in 40..52 {
        let high = page.entry(READ | 1 << bit);
        is_refused("a high address", set(tree.l1.slot(1), high))?;
        is_refused("a high address", map(WINDOW + 4096, high))?;
        for (table, child) in children {
            is_refused("a high address", set(table.slot(1), child.entry(TABLE | 1 << bit)))?;
        }
        let whole = Page::read_only(&[high])?;
        is_refused("a table with it", operate(pin(1, whole.mfn)))?;
        whole.unprotect()?;
    }
    // Cache bits on RAM, where the domain has no devices.
    if !is_privileged() {
        for bits in [1 << 3, 1 << 4, 1 << 7, 1 << 3 | 1 << 4, 1 << 3 | 1 << 4 | 1 << 7] {
            refused("cache bits", set(tree.l1.slot(1), page.entry(READ | bits)), Errno::EINVAL)?;
            refused("cache bits", set(tree.l1.slot(0), tree.data.entry(WRITE | bits)), Errno::EINVAL)?;
            refused("cache bits", map(page.address, page.entry(WRITE | bits)), Errno::EINVAL)?;
        }
    }
    equal("no entry came in", [tree.l1.read(1) & PRESENT, tree.l2.read(1), tree.l3.read(1)], [0; 3])
}
