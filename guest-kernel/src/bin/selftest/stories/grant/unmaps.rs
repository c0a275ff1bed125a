//! The ends of mappings: in order, in disorder, and with something else in their place.

use super::*;
use crate::check::holds;
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::paging::frame;
use guest_kernel::probe;

fn replace(host_addr: u64, new_addr: u64, handle: u32) -> Result<i16, Ending> {
    let mut request = GnttabUnmapAndReplace { host_addr, new_addr, handle, status: 77, ..Default::default() };
    op(GNTTABOP_UNMAP_AND_REPLACE, &mut request).map_err(refusal)?;
    Ok(request.status)
}

/// A mapping ends and another page comes to its place.
pub fn replaces() -> Told {
    let tree = Tree::hooked()?;
    let page = patterned(1);
    let other = patterned(2);
    let grant = granted(page, Access::Write)?;
    let handle = mapped(page_at(1), HOST, grant.reference())?;
    equal("map the other", map(page_at(2), other.entry(WRITE)), Ok(0))?;
    equal("replace", replace(page_at(1), page_at(2), handle)?, GNTST_OKAY)?;
    equal("the other is here", probe::read(page_at(1)), Ok(2 << 32))?;
    holds("and not there", probe::read(page_at(2)).is_err())?;
    equal("entries", (frame(tree.l1.read(1)), tree.l1.read(2)), (other.mfn, 0))?;
    equal("flags", flags(&grant)? & GTF_READING, 0)?;
    equal("again", replace(page_at(1), page_at(2), handle)?, GNTST_BAD_HANDLE)?;

    let handle = mapped(page_at(3), HOST, grant.reference())?;
    equal("with nothing", replace(page_at(3), 0, handle)?, GNTST_OKAY)?;
    let handle = mapped(page_at(3), HOST, grant.reference())?;
    equal("at the wrong place", replace(page_at(4), 0, handle)?, GNTST_GENERAL_ERROR)?;
    equal("with an address of nothing", replace(page_at(3), 0x7000_0000_0000, handle)?, GNTST_GENERAL_ERROR)?;
    unmapped(page_at(3), handle)?;
    let handle = mapped(tree.l1.slot(3), HOST | BY_ENTRY, grant.reference())?;
    equal("by entry", replace(tree.l1.slot(3), page_at(1), handle)?, GNTST_GENERAL_ERROR)?;
    unmapped(tree.l1.slot(3), handle)?;
    ended(grant)
}

/// Handles that aren't there, and places that don't map what the handle stands for.
pub fn refusals() -> Told {
    let tree = Tree::hooked()?;
    let (page, other) = (patterned(1), patterned(2));
    let grant = granted(page, Access::Write)?;
    let second = granted(other, Access::Write)?;
    let handle = mapped(page_at(1), HOST, grant.reference())?;
    let another = mapped(page_at(2), HOST, second.reference())?;
    let reader = mapped(page_at(3), HOST | READ_ONLY, grant.reference())?;
    for odd in [another + 1000, 0x00ff_ffff, u32::MAX, 1 << 31] {
        equal("handle", unmap(page_at(1), 0, odd)?, GNTST_BAD_HANDLE)?;
    }
    for (what, address, with) in [
        ("the other's page", page_at(2), handle),
        ("a page with other rights", page_at(3), handle),
        ("the writable page with the reader's handle", page_at(1), reader),
        ("nothing there", page_at(4), handle),
        ("no table there", 0x7000_0000_0000, handle),
        ("the hypervisor's", crate::check::HYPERVISOR, handle),
        ("not canonical", crate::check::NON_CANONICAL, handle),
    ] {
        equal(what, unmap(address, 0, with)?, GNTST_GENERAL_ERROR)?;
    }
    equal("the entries", [1, 2, 3].map(|n| frame(tree.l1.read(n))), [page.mfn, other.mfn, page.mfn])?;
    unmapped(page_at(1), handle)?;
    unmapped(page_at(2), another)?;
    unmapped(page_at(3), reader)?;
    ended(grant)?;
    ended(second)
}

/// Whoever overwrites the entry of a mapping drops what it held, and can't end the mapping in order any more.
pub fn overwritten() -> Told {
    let tree = Tree::hooked()?;
    let (page, other) = (patterned(1), patterned(2));
    let grant = granted(page, Access::Write)?;
    let handle = mapped(page_at(1), HOST, grant.reference())?;
    page.protect()?;
    holds("a table that is mapped writable", operate(pin(1, page.mfn)).is_err())?;
    equal("overwrite", map(page_at(1), other.entry(WRITE)), Ok(0))?;
    equal("unmap", unmap(page_at(1), 0, handle)?, GNTST_GENERAL_ERROR)?;
    equal("still in use", flags(&grant)? & GTF_WRITING, GTF_WRITING)?;
    equal("the other", frame(tree.l1.read(1)), other.mfn)?;
    // The mapping is gone, and so is what it held.
    page.unprotect()?;
    (0..512).for_each(|index| page.write(index, 0));
    page.protect()?;
    equal("a table", operate(pin(1, page.mfn)), Ok(0))?;
    equal("no table any more", operate(unpin(page.mfn)), Ok(0))?;
    // Mapped there again, it can be ended by the first handle, and then not by the second.
    let second = mapped(page_at(1), HOST, grant.reference())?;
    unmapped(page_at(1), handle)?;
    equal("nothing there", unmap(page_at(1), 0, second)?, GNTST_GENERAL_ERROR)?;
    equal("in use for good", flags(&grant)? & GTF_WRITING, GTF_WRITING)
}

/// A page table with a mapping in it is unlinked, taken apart and checked anew.
pub fn tables() -> Told {
    let tree = Tree::hooked()?;
    let page = patterned(1);
    let grant = granted(page, Access::Write)?;
    let handle = mapped(page_at(1), HOST, grant.reference())?;
    page.protect()?;
    equal("pin the table", operate(pin(1, tree.l1.mfn)), Ok(0))?;
    equal("unpin it", operate(unpin(tree.l1.mfn)), Ok(0))?;
    equal("mapped yet", probe::read(page_at(1)), Ok(1 << 32))?;
    equal("unlink", set(tree.l2.slot(0), 0), Ok(0))?;
    flush()?;
    equal("not there", unmap(page_at(1), 0, handle)?, GNTST_GENERAL_ERROR)?;
    equal("in use yet", flags(&grant)? & GTF_WRITING, GTF_WRITING)?;
    // What its entries held is dropped: the page may be anything.
    page.unprotect()?;
    (0..512).for_each(|index| page.write(index, 0));
    page.protect()?;
    equal("a table", operate(pin(1, page.mfn)), Ok(0))?;
    // The entry is still in the page, and now it is one like any other: for a table nobody has it writable.
    let linked = set(tree.l2.slot(0), tree.l1.entry(TABLE));
    holds("a table with a writable mapping of a table", linked.is_err())?;
    equal("no table any more", operate(unpin(page.mfn)), Ok(0))?;
    equal("link", set(tree.l2.slot(0), tree.l1.entry(TABLE)), Ok(0))?;
    unmapped(page_at(1), handle)?;
    ended(grant)
}
