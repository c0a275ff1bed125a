//! Ways to die that need tables of the domain's own: stories of the suite `crash`.

use super::descriptors::{SEGMENT, gdt, load};
use super::ground::*;
use super::ldt::ldt;
use super::reservation::give;
use super::user::{UserSpace, program};
use crate::check::{HYPERVISOR, NON_CANONICAL, Told, UNMAPPED, equal, fail};
use guest_kernel::hypercall::mmuext::{new_base, pin};
use guest_kernel::hypercall::stack_switch;
use guest_kernel::paging::PAGE_SIZE;
use pv_abi::trap::FLAT_KERNEL_SS;

const SURVIVED: &str = "survived";

/// A trap from user mode with this stack for the kernel.
fn user_trap_with_stack(stack: u64) -> Told {
    let space = UserSpace::new(program!["int3"])?;
    // SAFETY: the domain ends before the stack is used.
    equal("stack_switch", unsafe { stack_switch(FLAT_KERNEL_SS, stack) }, Ok(0))?;
    space.run(space.start());
    fail(SURVIVED)
}

/// The kernel's stack for user mode is on no page.
pub fn user_stack_unmapped() -> Told {
    user_trap_with_stack(UNMAPPED + 0x800)
}

/// It is in the hypervisor.
pub fn user_stack_in_hypervisor() -> Told {
    user_trap_with_stack(HYPERVISOR)
}

/// It isn't an address at all.
pub fn user_stack_not_canonical() -> Told {
    user_trap_with_stack(NON_CANONICAL)
}

/// It is a page table, of the level at which stores are emulated.
pub fn user_stack_in_table() -> Told {
    super::emulated::assist(true)?;
    let tree = Tree::hooked()?;
    user_trap_with_stack(tree.l1.address + PAGE_SIZE)
}

/// The kernel's root gives way to one without the kernel.
pub fn root_without_kernel() -> Told {
    let tree = Tree::protected()?;
    let _ = operate(new_base(tree.l4.mfn));
    fail(SURVIVED)
}

/// The kernel's own mapping goes.
pub fn kernel_unmapped() -> Told {
    let _ = set(root_slot(511), 0);
    fail(SURVIVED)
}

/// A domain that uses everything there is: pinned and unpinned tables, two roots, descriptor tables, frames given back
/// that are in use, a list of calls under way. All of it has to come apart.
pub fn with_everything() -> Told {
    let space = UserSpace::new(program!["syscall"])?;
    let _ = space.run(space.start());
    let [gdt_page, ldt_page] = [Page::read_only(&[0, SEGMENT])?, Page::read_only(&[SEGMENT])?];
    equal("GDT", gdt(&[gdt_page.mfn, gdt_page.mfn], 1024), Ok(0))?;
    equal("LDT", ldt(ldt_page.address, 512), Ok(0))?;
    equal("LDT in use", load(0x07), None)?;
    let trees = [Tree::protected()?, Tree::protected()?, Tree::protected()?];
    for (level, table) in [(4, trees[0].l4), (3, trees[1].l3), (1, trees[2].l1), (2, trees[0].l2)] {
        equal("pin", operate(pin(level, table.mfn)), Ok(0))?;
    }
    // Shared by several.
    equal("share", set(trees[0].l4.slot(7), trees[1].l3.entry(TABLE)), Ok(0))?;
    equal("share", set(root_slot(WINDOW_SLOT), trees[1].l3.entry(TABLE)), Ok(0))?;
    let given = [gdt_page, ldt_page, trees[0].l4, trees[0].l1, trees[1].l2, trees[1].data, space.tree.l4, space.data];
    equal("give back", give(&given.map(|page| page.mfn)), Ok(given.len() as u64))?;
    panic!("as the story asks");
}
