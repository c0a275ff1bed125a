//! Changes of upper tables must count at once: nobody walks what is no longer there (XSA-286).

use crate::check::{Told, equal, trapped};
use crate::stories::mmu::ground::*;
use guest_kernel::hypercall::{self, multicall_entry, multicall_result};
use guest_kernel::paging::index;
use guest_kernel::probe;
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall::MMU_UPDATE;
use pv_abi::mmu::MmuUpdate;

/// The machine addresses of the entries at levels 2 to 4 that lead to [`WINDOW`], and their values.
fn path(tree: &Tree) -> [(u64, u64); 3] {
    [
        (tree.l2.slot(0), tree.l1.entry(TABLE)),
        (tree.l3.slot(0), tree.l2.entry(TABLE)),
        (root_slot(index(WINDOW, 4)), tree.l3.entry(TABLE)),
    ]
}

/// Without any flush by the guest, what an upper entry led to is gone with it.
pub fn removed_entries() -> Told {
    let tree = Tree::hooked()?;
    tree.data.write(0, 5);
    for (slot, entry) in path(&tree) {
        equal("word", probe::read(WINDOW), Ok(5))?;
        equal("take the entry out", set(slot, 0), Ok(0))?;
        trapped("behind it", probe::read(WINDOW).err(), 14, 0)?;
        // SAFETY: the store must fault.
        trapped("store behind it", unsafe { probe::write(WINDOW, 0) }.err(), 14, 2)?;
        equal("put it back", set(slot, entry), Ok(0))?;
        equal("word", probe::read(WINDOW), Ok(5))?;
    }
    Ok(())
}

/// The same with another table in its place, and with rights taken away.
pub fn replaced_entries() -> Told {
    let tree = Tree::hooked()?;
    tree.data.write(0, 5);
    let other = Tree::protected()?;
    other.data.write(0, 6);
    let others = [other.l1, other.l2, other.l3];
    for ((slot, entry), table) in path(&tree).into_iter().zip(others) {
        equal("word", probe::read(WINDOW), Ok(5))?;
        equal("another table", set(slot, table.entry(TABLE)), Ok(0))?;
        equal("its word", probe::read(WINDOW), Ok(6))?;
        equal("put it back", set(slot, entry), Ok(0))?;
        equal("word", probe::read(WINDOW), Ok(5))?;
        equal("no right to write", set(slot, entry & !guest_kernel::paging::WRITABLE), Ok(0))?;
        // SAFETY: the store must fault.
        trapped("store", unsafe { probe::write(WINDOW, 0) }.err(), 14, 3)?;
        equal("put it back", set(slot, entry), Ok(0))?;
    }
    Ok(())
}

/// The same in one list: the second update of a list already meets what the first one left.
pub fn lists() -> Told {
    let tree = Tree::hooked()?;
    tree.data.write(0, 5);
    let other = Tree::protected()?;
    for (slot, entry) in path(&tree) {
        equal("word", probe::read(WINDOW), Ok(5))?;
        let updates = [MmuUpdate { ptr: slot, val: 0 }];
        let mut list = [multicall_entry(MMU_UPDATE, [updates.as_ptr() as u64, 1, 0, u64::from(DOMID_SELF), 0, 0])];
        // SAFETY: the update is about tables of the story's.
        equal("list", unsafe { hypercall::multicall(&mut list) }, Ok(0))?;
        equal("update", multicall_result(&list[0]), Ok(0))?;
        trapped("behind it", probe::read(WINDOW).err(), 14, 0)?;
        equal("put it back", set(slot, entry), Ok(0))?;
    }
    // The table that was taken out becomes a plain page in the same list, and is written by it.
    equal("word", probe::read(WINDOW), Ok(5))?;
    let wild = tree.data.entry(WRITE) | NO_EXECUTE;
    let (slot, _) = path(&tree)[0];
    equal("list", updates(&[(slot, other.l1.entry(TABLE)), (tree.l1.slot(0), wild)]), Ok(0))?;
    equal("word of the other", probe::read(WINDOW), Ok(0))?;
    equal("stored as it is", tree.l1.read(0), wild)?;
    tree.l1.unprotect()
}
