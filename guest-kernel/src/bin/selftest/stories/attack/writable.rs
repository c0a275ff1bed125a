//! A page table that the guest can write is the end of all isolation: every way to get one.

use crate::check::{Ending, Told, equal, holds, refused, trapped};
use crate::stories::mmu::emulated::assist;
use crate::stories::mmu::ground::*;
use alloc::format;
use guest_kernel::hypercall::mmuext::{new_user_base, pin, unpin};
use guest_kernel::hypercall::{self, Flush};
use guest_kernel::paging::{PAGE_SIZE, PRESENT, WRITABLE};
use guest_kernel::{catch, memory, probe};
use pv_abi::errno::Errno;
use pv_abi::mmu::MMU_PT_UPDATE_PRESERVE_AD;

/// A tree that is pinned and mapped at [`WINDOW`]: tables of all levels in use.
pub fn tables_in_use() -> Result<Tree, Ending> {
    let tree = Tree::hooked()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    Ok(tree)
}

/// The page can't be written at `address`. The value is no entry that could be emulated: a writable mapping of itself.
pub fn is_sealed_at(page: Page, address: u64) -> Told {
    let before = page.read(511);
    // SAFETY: the store must fault; the verdict says so if it doesn't.
    let stored = unsafe { probe::write(address + 511 * 8, page.entry(WRITE)) };
    trapped("store to a table", stored.err(), 14, 3)?;
    equal("word after it", page.read(511), before)
}

/// The same where the page was mapped at first.
pub fn is_sealed(page: Page) -> Told {
    is_sealed_at(page, page.address)
}

/// The tables of a story's, and those that the kernel runs on.
fn targets(tree: &Tree) -> alloc::vec::Vec<(alloc::string::String, Page)> {
    let mut targets: alloc::vec::Vec<_> =
        tree.tables().into_iter().zip((1..=4).rev()).map(|(page, level)| (format!("level {level}"), page)).collect();
    for level in 1..=4 {
        let mfn = table_of(tree.l1.address, level).unwrap_or(0);
        if let Some(address) = memory::address_of_frame(mfn) {
            targets.push((format!("the kernel's level {level}"), Page { address, mfn }));
        }
    }
    targets
}

/// New entries: by update, by address, by plain store, in every form.
pub fn new_entries() -> Told {
    assist(true)?;
    let tree = tables_in_use()?;
    let (slot, at, address) = (tree.l1.slot(9), tree.l1.address + 9 * 8, WINDOW + 9 * PAGE_SIZE);
    for (what, table) in targets(&tree) {
        let entry = table.entry(WRITE);
        refused(&what, set(slot, entry), Errno::EBUSY)?;
        refused(&what, set(slot | MMU_PT_UPDATE_PRESERVE_AD, entry), Errno::EBUSY)?;
        refused(&what, map(address, entry), Errno::EBUSY)?;
        refused(&what, map(table.address, entry), Errno::EBUSY)?;
        // SAFETY: the store must fault.
        trapped(&what, unsafe { probe::write(at, entry) }.err(), 14, 3)?;
        // SAFETY: as above.
        let exchanged = unsafe { catch!(["xchg [{at}], {entry}"] at = in(reg) at, entry = inout(reg) entry => _,) };
        trapped(&what, exchanged, 14, 3)?;
        equal("the entry", tree.l1.read(9), 0)?;
        is_sealed(table)?;
    }
    assist(false)
}

/// The table is mapped read-only, as it may be; then the write bit is set, by every path that could take a shortcut
/// (XSA-148, XSA-182).
pub fn write_bit() -> Told {
    assist(true)?;
    let tree = tables_in_use()?;
    let (slot, at, address) = (tree.l1.slot(9), tree.l1.address + 9 * 8, WINDOW + 9 * PAGE_SIZE);
    for (what, table) in targets(&tree) {
        equal("map it read-only", map(address, table.entry(READ)), Ok(0))?;
        equal("a word of it", probe::read(address), Ok(table.read(0)))?;
        let entry = tree.l1.read(9);
        refused(&what, set(slot, entry | WRITABLE), Errno::EBUSY)?;
        refused(&what, set(slot | MMU_PT_UPDATE_PRESERVE_AD, entry | WRITABLE), Errno::EBUSY)?;
        refused(&what, map(address, entry | WRITABLE), Errno::EBUSY)?;
        refused(&what, updates(&[(slot, entry | 1 << 9), (slot, entry | WRITABLE)]), Errno::EBUSY)?;
        // SAFETY: the stores must fault.
        let stores = unsafe {
            [
                catch!(["lock or byte ptr [{at}], 2"] at = in(reg) at,),
                catch!(["or dword ptr [{at}], 2"] at = in(reg) at,),
                catch!(["lock bts qword ptr [{at}], 1"] at = in(reg) at,),
                catch!(["mov byte ptr [{at}], 0x63"] at = in(reg) at,),
                catch!(["mov rax, [{at}]", "mov {new}, rax", "or {new}, 2", "lock cmpxchg [{at}], {new}"]
                    at = in(reg) at, new = out(reg) _,),
            ]
        };
        stores.into_iter().try_for_each(|caught| trapped(&what, caught, 14, 3))?;
        equal("write bit", tree.l1.read(9) & WRITABLE, 0)?;
        is_sealed_at(table, address)?;
        equal("out again", set(slot, 0), Ok(0))?;
    }
    assist(false)
}

/// The writable mapping comes first, in tables that are in force, or that nobody looks at.
pub fn mapping_first() -> Told {
    // Mapped writable once more, elsewhere.
    let tree = Tree::hooked()?;
    let page = Page::read_only(&[])?;
    equal("another mapping", set(tree.l1.slot(1), page.entry(WRITE)), Ok(0))?;
    for level in 1..=4 {
        refused("a page mapped writable elsewhere", operate(pin(level, page.mfn)), Errno::EINVAL)?;
    }
    for (slot, what) in
        [(tree.l2.slot(1), "in level 2"), (tree.l3.slot(1), "in level 3"), (root_slot(300), "in level 4")]
    {
        refused(what, set(slot, page.entry(TABLE)), Errno::EINVAL)?;
    }
    equal("out again", set(tree.l1.slot(1), 0), Ok(0))?;
    equal("a table now", operate(pin(1, page.mfn)), Ok(0))?;
    is_sealed(page)?;

    // Mapped writable in a table that is pinned, but in nobody's address space.
    let victim = Page::read_only(&[])?;
    let aside = Page::read_only(&[victim.entry(WRITE)])?;
    equal("pin the mapping", operate(pin(1, aside.mfn)), Ok(0))?;
    refused("pin the page", operate(pin(1, victim.mfn)), Errno::EINVAL)?;
    equal("unpin the mapping", operate(unpin(aside.mfn)), Ok(0))?;
    equal("pin the page", operate(pin(1, victim.mfn)), Ok(0))?;
    refused("pin the mapping", operate(pin(1, aside.mfn)), Errno::EBUSY)?;
    is_sealed(victim)
}

/// Tables full of mappings that come into use as a whole: one that maps a table in use, or itself, or its parents.
pub fn whole_tables() -> Told {
    let tree = tables_in_use()?;
    for (what, table) in targets(&tree) {
        let spoilt = Page::read_only(&[0, table.entry(WRITE)])?;
        refused(&what, operate(pin(1, spoilt.mfn)), Errno::EBUSY)?;
        let answer = set(tree.l2.slot(9), spoilt.entry(TABLE));
        holds(&what, matches!(answer, Err(Errno::EBUSY | Errno::EINVAL)))?;
        equal("the entry", tree.l2.read(9), 0)?;
        is_sealed(table)?;
        spoilt.unprotect()?;
    }
    for choose in 0..4 {
        let own = Tree::new();
        own.l1.write(5, own.tables()[choose].entry(WRITE));
        own.tables().into_iter().try_for_each(Page::protect)?;
        let answer = operate(pin(4, own.l4.mfn));
        holds("a tree that maps a table of its own", matches!(answer, Err(Errno::EBUSY | Errno::EINVAL)))?;
        let answer = operate(new_user_base(own.l4.mfn));
        holds("as a root", matches!(answer, Err(Errno::EBUSY | Errno::EINVAL)))?;
        own.tables().into_iter().try_for_each(Page::unprotect)?;
    }
    Ok(())
}

/// The mapping is taken away, but the translation is still in the TLB when the page becomes a table (XSA-401): stores
/// through it must fault all the same.
pub fn stale_translations() -> Told {
    let tree = Tree::hooked()?;
    for (level, child) in [(1, tree.data), (2, tree.l1), (3, tree.l2), (4, tree.l3)] {
        let page = Page::new();
        if level > 1 {
            page.write(0, child.entry(TABLE));
        }
        let alias = WINDOW + PAGE_SIZE;
        equal("another mapping", set(tree.l1.slot(1), page.entry(WRITE)), Ok(0))?;
        // Both translations are in the TLB.
        for address in [page.address, alias] {
            // SAFETY: the page is the story's.
            equal("store", unsafe { probe::write(address + 0x800, 0) }, Ok(()))?;
        }
        equal("out again", set(tree.l1.slot(1), 0), Ok(0))?;
        // SAFETY: the page is the story's.
        let kept = unsafe { hypercall::update_va_mapping(page.address, page.entry(READ), Flush::None) };
        equal("read-only, without a flush", kept, Ok(0))?;
        equal("pin", operate(pin(level, page.mfn)), Ok(0))?;
        is_sealed(page)?;
        // SAFETY: the store must fault.
        let stored = unsafe { probe::write(alias + 511 * 8, page.entry(WRITE)) };
        trapped("store through the other mapping", stored.err(), 14, 2)?;
        equal("word after it", page.read(511), 0)?;
    }
    Ok(())
}

/// The reverse: a table is let go and becomes a plain page while the TLB still has what it mapped.
pub fn stale_table() -> Told {
    let tree = Tree::hooked()?;
    let page = Page::new();
    equal("map a page", set(tree.l1.slot(1), page.entry(WRITE)), Ok(0))?;
    // SAFETY: the page is the story's.
    equal("store", unsafe { probe::write(WINDOW + PAGE_SIZE, 0) }, Ok(()))?;
    // The table goes, and the page becomes one.
    equal("take the table out", set(tree.l2.slot(0), 0), Ok(0))?;
    page.protect()?;
    tree.l1.unprotect()?;
    tree.l1.write(1, page.entry(WRITE));
    equal("pin", operate(pin(1, page.mfn)), Ok(0))?;
    // SAFETY: the store must fault.
    let stored = unsafe { probe::write(WINDOW + PAGE_SIZE, page.entry(WRITE | PRESENT)) };
    trapped("store through the old table", stored.err(), 14, 2)?;
    is_sealed(page)
}
