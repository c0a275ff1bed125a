//! Page tables that name themselves or one of their own level (XSA-182, XSA-240).

use super::writable::is_sealed;
use crate::check::{Told, equal, holds, refused};
use crate::stories::mmu::ground::*;
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::paging::{PRESENT, USER, WRITABLE};
use guest_kernel::{memory, probe};
use pv_abi::errno::Errno;

/// Flags of an entry that gives no right to write.
const READ_TABLE: u64 = PRESENT | USER | ACCESSED;

/// A table in a slot of its own, or of another of its level, even read-only: refused, as there is no need for it.
pub fn tables() -> Told {
    let tree = Tree::protected()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    let other = Tree::protected()?;
    equal("pin another", operate(pin(4, other.l4.mfn)), Ok(0))?;
    for (table, sibling) in [(tree.l4, other.l4), (tree.l3, other.l3), (tree.l2, other.l2)] {
        for flags in [READ_TABLE, TABLE] {
            refused("itself", set(table.slot(7), table.entry(flags)), Errno::EINVAL)?;
            refused("one of its level", set(table.slot(7), sibling.entry(flags)), Errno::EINVAL)?;
        }
    }
    for level in 2..=4 {
        let own = Page::new();
        own.write(7, own.entry(READ_TABLE));
        own.protect()?;
        refused("a table that names itself", operate(pin(level, own.mfn)), Errno::EINVAL)?;
        own.unprotect()?;
    }
    Ok(())
}

/// Where a table may name itself for reading, the write bit must not follow, by a change of flags least of all.
pub fn write_bit() -> Told {
    let mfn = root();
    let Some(address) = memory::address_of_frame(mfn) else { return holds("no root", false) };
    let kernel_root = Page { address, mfn };
    let tree = Tree::hooked()?;
    for (table, index) in [(kernel_root, 301), (tree.l3, 7), (tree.l2, 7)] {
        refused("itself, writable", set(table.slot(index), table.entry(TABLE)), Errno::EINVAL)?;
        let linear = set(table.slot(index), table.entry(READ_TABLE)).is_ok();
        refused("the write bit", set(table.slot(index), table.entry(READ_TABLE | WRITABLE)), Errno::EINVAL)?;
        equal("write bit", table.read(index) & WRITABLE, 0)?;
        is_sealed(table)?;
        if linear {
            equal("out again", set(table.slot(index), 0), Ok(0))?;
        }
    }
    // Through the root's own slot, the tables would lie here.
    let hole = 0xffff_0000_0000_0000 | 301 << 39;
    equal("nothing there", probe::read(hole).is_err(), true)
}

/// A chain of tables that name each other in a circle, made while they are plain pages.
pub fn circles() -> Told {
    for level in 2..=4 {
        let [a, b] = [Page::new(), Page::new()];
        a.write(0, b.entry(TABLE));
        b.write(0, a.entry(TABLE));
        [a, b].into_iter().try_for_each(Page::protect)?;
        for page in [a, b] {
            // A table of level 1 would map another one writable.
            let answer = operate(pin(level, page.mfn));
            holds("a circle", matches!(answer, Err(Errno::EINVAL | Errno::EBUSY)))?;
        }
        [a, b].into_iter().try_for_each(Page::unprotect)?;
    }
    // The lowest table of a tree names the root as its page, which is a writable mapping of a table, or a plain circle.
    let tree = Tree::new();
    tree.l1.write(3, tree.l4.entry(READ));
    tree.tables().into_iter().try_for_each(Page::protect)?;
    equal("a read-only mapping of the root", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    is_sealed(tree.l4)?;
    equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
    tree.tables().into_iter().try_for_each(Page::unprotect)
}
