//! Changing the root table: `MMUEXT_NEW_BASEPTR`, `MMUEXT_NEW_USER_BASEPTR`.

use super::ground::*;
use crate::check::{Told, equal, refused};
use guest_kernel::hypercall::mmuext::{new_base, new_user_base, pin, unpin};
use guest_kernel::paging::PRESENT;
use guest_kernel::{memory, probe};
use pv_abi::errno::Errno;

/// A copy of the current root, read-only: the same kernel in an address space of its own.
pub fn copy_of_root() -> Result<Page, crate::check::Ending> {
    let page = Page::new();
    let from = memory::address_of_frame(root()).unwrap_or(0);
    for index in (0..512).filter(|index| !(256..272).contains(index)) {
        page.write(index, probe::read(from + 8 * index as u64).unwrap_or(0));
    }
    page.protect()?;
    Ok(page)
}

/// To another root and back, pinned and unpinned; what a root has of its own is seen in it only.
pub fn kernel() -> Told {
    let before = root();
    equal("the same root", operate(new_base(before)), Ok(0))?;
    equal("CR3", root(), before)?;

    let other = copy_of_root()?;
    let tree = Tree::protected()?;
    tree.data.write(0, 42);
    equal("switch", operate(new_base(other.mfn)), Ok(0))?;
    equal("CR3 after it", root(), other.mfn)?;
    equal("enter a table", set(root_slot(WINDOW_SLOT), tree.l3.entry(TABLE)), Ok(0))?;
    equal("word behind it", probe::read(WINDOW), Ok(42))?;
    refused("writable mapping of the root in use", map(other.address, other.entry(WRITE)), Errno::EBUSY)?;
    equal("switch back", operate(new_base(before)), Ok(0))?;
    equal("CR3 after it", root(), before)?;
    equal("the other's table", probe::read(WINDOW).is_err(), true)?;
    // The hypervisor's slots are in it, whatever the guest had there.
    equal("slot of the machine-to-physical table", other.read(256) & PRESENT, PRESENT)?;
    // Nothing holds it any more.
    other.unprotect()?;

    let pinned = copy_of_root()?;
    equal("pin", operate(pin(4, pinned.mfn)), Ok(0))?;
    for _ in 0..3 {
        equal("switch", operate(new_base(pinned.mfn)), Ok(0))?;
        equal("switch back", operate(new_base(before)), Ok(0))?;
    }
    equal("unpin", operate(unpin(pinned.mfn)), Ok(0))?;
    pinned.unprotect()
}

/// The user's root: another, the same again, none.
pub fn user() -> Told {
    let tree = Tree::protected()?;
    equal("none at start", operate(new_user_base(0)), Ok(0))?;
    for mfn in [tree.l4.mfn, tree.l4.mfn, 0, tree.l4.mfn] {
        equal("user root", operate(new_user_base(mfn)), Ok(0))?;
    }
    refused("writable mapping of it", map(tree.l4.address, tree.l4.entry(WRITE)), Errno::EBUSY)?;
    equal("the kernel's own", operate(new_user_base(root())), Ok(0))?;
    tree.l4.unprotect()?;
    equal("none", operate(new_user_base(0)), Ok(0))
}

/// Frames that are no root leave everything as it was.
pub fn refusals() -> Told {
    let before = root();
    let tree = Tree::hooked()?;
    let writable = Page::new();
    let bad = [writable.mfn, tree.l1.mfn, tree.l2.mfn, tree.l3.mfn, 0xff_ffff_ffff, 0xf_ffff_ffff_ffff, u64::MAX];
    for mfn in bad {
        refused("kernel root", operate(new_base(mfn)), Errno::EINVAL)?;
        refused("user root", operate(new_user_base(mfn)), Errno::EINVAL)?;
    }
    equal("CR3", root(), before)?;
    // Bad entries are found when it is to be used.
    let spoilt = Page::read_only(&[writable.entry(TABLE)])?;
    refused("kernel root with a bad entry", operate(new_base(spoilt.mfn)), Errno::EINVAL)?;
    refused("user root with a bad entry", operate(new_user_base(spoilt.mfn)), Errno::EINVAL)?;
    spoilt.unprotect()
}
