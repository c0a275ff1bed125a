//! `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE`.

use super::ground::*;
use crate::check::{Told, equal, holds, refused};
use guest_kernel::hypercall::mmuext::{clear_page, copy_page, pin, unpin};
use pv_abi::errno::Errno;

/// Pages are filled with zeros and copied, whether they are mapped writable or not.
pub fn pages() -> Told {
    let [from, to] = [Page::new(), Page::new()];
    (0..512).for_each(|n| from.write(n, 1000 + n as u64));
    equal("copy", operate(copy_page(to.mfn, from.mfn)), Ok(0))?;
    holds("words copied", (0..512).all(|n| to.read(n) == 1000 + n as u64))?;
    equal("clear", operate(clear_page(to.mfn)), Ok(0))?;
    holds("words cleared", (0..512).all(|n| to.read(n) == 0))?;
    holds("source untouched", (0..512).all(|n| from.read(n) == 1000 + n as u64))?;

    to.protect()?;
    from.protect()?;
    equal("copy to a page mapped read-only", operate(copy_page(to.mfn, from.mfn)), Ok(0))?;
    holds("words copied", (0..512).all(|n| to.read(n) == 1000 + n as u64))?;
    equal("copy onto itself", operate(copy_page(to.mfn, to.mfn)), Ok(0))?;
    holds("words as they were", (0..512).all(|n| to.read(n) == 1000 + n as u64))
}

/// A table can be read by a copy, never written.
pub fn tables() -> Told {
    let tree = Tree::protected()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    let page = Page::new();
    for table in tree.tables() {
        let entry = table.read(0);
        refused("clear a table", operate(clear_page(table.mfn)), Errno::EINVAL)?;
        refused("copy to a table", operate(copy_page(table.mfn, page.mfn)), Errno::EINVAL)?;
        equal("entry after it", table.read(0), entry)?;
        equal("copy from a table", operate(copy_page(page.mfn, table.mfn)), Ok(0))?;
        equal("entry copied", page.read(0), entry)?;
        page.write(0, 0);
    }
    equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
    for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff, u64::MAX] {
        refused("clear no frame", operate(clear_page(mfn)), Errno::EINVAL)?;
        refused("copy to no frame", operate(copy_page(mfn, page.mfn)), Errno::EINVAL)?;
        refused("copy from no frame", operate(copy_page(page.mfn, mfn)), Errno::EINVAL)?;
    }
    Ok(())
}
