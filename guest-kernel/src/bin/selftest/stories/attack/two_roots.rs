//! A domain has two roots, and what one of them maps counts for the other: a table that only user mode could write is
//! as bad as any.

use super::writable::is_sealed;
use crate::check::{Told, equal, holds, refused};
use crate::stories::mmu::emulated::assist;
use crate::stories::mmu::ground::*;
use crate::stories::mmu::roots::copy_of_root;
use crate::stories::mmu::user::{CODE, DATA, UserSpace, program};
use guest_kernel::hypercall::mmuext::{new_base, new_user_base, pin};
use guest_kernel::memory;
use guest_kernel::paging::{USER, index};
use guest_kernel::trap::TrapFrame;
use pv_abi::errno::Errno;

/// Where the user root has a table of its own that the kernel's doesn't have.
const APART: u64 = 0x70_0000_0000;

/// A user root that maps the kernel's root, or its own tables, writable.
pub fn writable_in_user_root() -> Told {
    let Some(address) = memory::address_of_frame(root()) else { return holds("no root", false) };
    let kernel_root = Page { address, mfn: root() };
    for own in [false, true] {
        let tree = Tree::new();
        let target = if own { tree.l4 } else { kernel_root };
        tree.l1.write(1, target.entry(WRITE | USER));
        tree.tables().into_iter().try_for_each(Page::protect)?;
        let answer = operate(new_user_base(tree.l4.mfn));
        holds("as user root", matches!(answer, Err(Errno::EBUSY | Errno::EINVAL)))?;
        tree.tables().into_iter().try_for_each(Page::unprotect)?;
    }
    is_sealed(kernel_root)
}

/// A user root in force gets such mappings later, in a table that the kernel's root doesn't have.
pub fn writable_later() -> Told {
    let program = program!["mov [rdi], rax", "syscall"];
    let space = UserSpace::new(program)?;
    let apart = Tree::new();
    apart.l3.write(index(APART, 3), apart.l2.entry(TABLE));
    apart.tables().into_iter().try_for_each(Page::protect)?;
    equal("a level 1 table apart", set(space.tree.l2.slot(300), apart.l1.entry(TABLE)), Ok(0))?;
    let base = CODE & !((1 << 30) - 1) | 300 << 21;
    let tables = [space.tree.l4, space.tree.l3, space.tree.l2, space.tree.l1, apart.l1];
    for table in tables {
        let slot = apart.l1.slot(4);
        refused("writable", set(slot, table.entry(WRITE | USER)), Errno::EBUSY)?;
        equal("read-only", set(slot, table.entry(READ | USER)), Ok(0))?;
        refused("and then writable", set(slot, table.entry(WRITE | USER)), Errno::EBUSY)?;
        // A store of user mode to a table is not emulated.
        equal("assist", assist(true).is_ok(), true)?;
        let start = TrapFrame { rdi: base + 4 * 4096 + 504 * 8, rax: space.data.entry(WRITE), ..space.start() };
        let frame = space.run(start);
        equal("store by user mode", (frame.vector(), frame.error_code), (14, 7))?;
        equal("word after it", table.read(504), 0)?;
        is_sealed(table)?;
        equal("out again", set(slot, 0), Ok(0))?;
    }
    // Its data it may write.
    let frame = space.run(TrapFrame { rdi: DATA, rax: 6, ..space.start() });
    equal("a store to its data", (frame.vector(), space.data.read(0)), (crate::stories::mmu::user::SYSCALL, 6))
}

/// A root without the kernel in it as the kernel's root: the domain's own trouble, and soon over; here with the kernel.
pub fn swapped_roots() -> Told {
    let before = root();
    let other = copy_of_root()?;
    for _ in 0..8 {
        equal("kernel root", operate(new_base(other.mfn)), Ok(0))?;
        equal("user root", operate(new_user_base(before)), Ok(0))?;
        equal("the same for both", operate(new_user_base(other.mfn)), Ok(0))?;
        equal("kernel root", operate(new_base(before)), Ok(0))?;
        equal("pinned too", operate(pin(4, other.mfn)), Ok(0))?;
        refused("writable", map(other.address, other.entry(WRITE)), Errno::EBUSY)?;
        equal("unpinned", operate(guest_kernel::hypercall::mmuext::unpin(other.mfn)), Ok(0))?;
        refused("writable", map(other.address, other.entry(WRITE)), Errno::EBUSY)?;
        equal("no user root", operate(new_user_base(0)), Ok(0))?;
    }
    other.unprotect()
}
