//! Pinning page tables: a frame becomes a table of its level when all its entries are good, and stays one.

use super::ground::*;
use crate::check::{Told, equal, holds, refused};
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::memory;
use guest_kernel::start::start_info;
use pv_abi::errno::Errno;

/// Tables of each level are pinned and unpinned; between the two they can't be written, afterwards they can.
pub fn levels() -> Told {
    let tree = Tree::protected()?;
    for (level, table) in [(1, tree.l1), (2, tree.l2), (3, tree.l3), (4, tree.l4)] {
        equal("pin", operate(pin(level, table.mfn)), Ok(0))?;
        let answer = map(table.address, table.entry(WRITE));
        refused("writable mapping of a table", answer, Errno::EBUSY)?;
        equal("words are left alone", table.read(511), 0)?;
    }
    // Parents hold their children: unpinned from below, each stays a table until its parent goes.
    for table in [tree.l1, tree.l2, tree.l3] {
        equal("unpin a child", operate(unpin(table.mfn)), Ok(0))?;
        refused("writable mapping of a child", map(table.address, table.entry(WRITE)), Errno::EBUSY)?;
    }
    equal("unpin the root", operate(unpin(tree.l4.mfn)), Ok(0))?;
    tree.tables().into_iter().try_for_each(Page::unprotect)
}

/// One pin of the root holds a whole tree, and a tree can be pinned again after it was let go.
pub fn whole_tree() -> Told {
    let tree = Tree::protected()?;
    for _ in 0..3 {
        equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
        for table in tree.tables() {
            refused("writable mapping", map(table.address, table.entry(WRITE)), Errno::EBUSY)?;
        }
        equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
    }
    // The same tables under two roots.
    let second = Page::read_only(&[tree.l3.entry(TABLE), tree.l3.entry(TABLE)])?;
    equal("pin one root", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    equal("pin another", operate(pin(4, second.mfn)), Ok(0))?;
    equal("unpin one", operate(unpin(tree.l4.mfn)), Ok(0))?;
    refused("writable mapping of what both held", map(tree.l3.address, tree.l3.entry(WRITE)), Errno::EBUSY)?;
    equal("unpin the other", operate(unpin(second.mfn)), Ok(0))?;
    tree.l3.unprotect()
}

/// A table is pinned once, and unpinned once.
pub fn twice() -> Told {
    let tree = Tree::protected()?;
    refused("unpin what isn't pinned", operate(unpin(tree.l1.mfn)), Errno::EINVAL)?;
    for (level, table) in [(1, tree.l1), (4, tree.l4)] {
        equal("pin", operate(pin(level, table.mfn)), Ok(0))?;
        refused("pin again", operate(pin(level, table.mfn)), Errno::EINVAL)?;
        equal("unpin", operate(unpin(table.mfn)), Ok(0))?;
        refused("unpin again", operate(unpin(table.mfn)), Errno::EINVAL)?;
    }
    // In use as a child, but not pinned.
    equal("pin the root", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    refused("unpin a child", operate(unpin(tree.l2.mfn)), Errno::EINVAL)?;
    equal("unpin the root", operate(unpin(tree.l4.mfn)), Ok(0))
}

/// Frames that can't become the table they are named as.
pub fn refusals() -> Told {
    let tree = Tree::protected()?;
    equal("pin the root", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    for (table, own_level) in [(tree.l1, 1), (tree.l2, 2), (tree.l3, 3), (tree.l4, 4)] {
        for level in (1..=4).filter(|level| *level != own_level) {
            let what = alloc::format!("level {own_level} as level {level}");
            refused(&what, operate(pin(level, table.mfn)), Errno::EINVAL)?;
        }
    }
    let writable = Page::new();
    for level in 1..=4 {
        refused("a page mapped writable", operate(pin(level, writable.mfn)), Errno::EINVAL)?;
        for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff, u64::MAX] {
            refused("no such frame", operate(pin(level, mfn)), Errno::EINVAL)?;
            refused("no such frame to unpin", operate(unpin(mfn)), Errno::EINVAL)?;
        }
    }
    equal("unpin the root", operate(unpin(tree.l4.mfn)), Ok(0))
}

/// One bad entry spoils a table and the tree above it, and nothing stays behind of what was done until then.
pub fn bad_entries() -> Told {
    let [good, writable, own] = [Page::new(), Page::new(), Page::new()];
    own.write(0, own.entry(WRITE));
    own.protect()?;
    refused("a table that maps itself writable", operate(pin(1, own.mfn)), Errno::EBUSY)?;
    own.unprotect()?;

    for (what, spoil) in [("level 1", 1), ("level 2", 2), ("level 3", 3)] {
        let tree = Tree::new();
        (1..511).for_each(|n| tree.l1.write(n, good.entry(WRITE)));
        let (table, entry) = match spoil {
            1 => (tree.l1, 0xff_ffff_ffff << 12 | READ),
            2 => (tree.l2, tree.l1.entry(TABLE | LARGE)),
            _ => (tree.l3, tree.l2.entry(TABLE | LARGE)),
        };
        table.write(511, entry);
        tree.tables().into_iter().try_for_each(Page::protect)?;
        for (level, table) in [(1, tree.l1), (2, tree.l2), (3, tree.l3), (4, tree.l4)].into_iter().skip(spoil - 1) {
            let answer = operate(pin(level, table.mfn));
            holds(what, matches!(answer, Err(Errno::EINVAL | Errno::EPERM)))?;
        }
        tree.tables().into_iter().try_for_each(Page::unprotect)?;
    }
    // A child that can still be written.
    let tree = Tree::new();
    tree.l4.write(1, writable.entry(TABLE));
    tree.tables().into_iter().try_for_each(Page::protect)?;
    refused("a child mapped writable", operate(pin(4, tree.l4.mfn)), Errno::EINVAL)?;
    tree.tables().into_iter().try_for_each(Page::unprotect)?;
    good.protect()?;
    good.unprotect()
}

/// The builder's root is pinned at start: a kernel that has built its own lets it go.
pub fn builders_root() -> Told {
    let Some(mfn) = memory::machine_frame_at(start_info().pt_base) else { return holds("no root", false) };
    refused("pin it again", operate(pin(4, mfn)), Errno::EINVAL)?;
    equal("unpin it", operate(unpin(mfn)), Ok(0))?;
    // It is in use still.
    refused("as another level", operate(pin(3, mfn)), Errno::EINVAL)?;
    equal("pin it anew", operate(pin(4, mfn)), Ok(0))
}

/// A tree of many tables, all named more than once, with `spoilt` as an entry unless that is 0.
struct Large {
    root: Page,
    tables: alloc::vec::Vec<Page>,
}

impl Large {
    fn new(spoilt: u64) -> Result<Large, crate::check::Ending> {
        const TABLES: usize = 96;
        let data = Page::new();
        let [root, level3, level2] = [Page::new(), Page::new(), Page::new()];
        let mut tables = alloc::vec![level3, level2];
        for index in 0..TABLES {
            let table = Page::new();
            (0..512).for_each(|entry| table.write(entry, data.entry(if entry % 2 == 0 { READ } else { WRITE })));
            for slot in [index, index + 2 * TABLES, 511 - index] {
                level2.write(slot, table.entry(TABLE));
            }
            tables.push(table);
        }
        for slot in [0, 100, 511] {
            level3.write(slot, level2.entry(TABLE));
            root.write(slot, level3.entry(TABLE));
        }
        // In the table that is reached last.
        if let (Some(last), true) = (tables.last(), spoilt != 0) {
            last.write(511, spoilt);
        }
        tables.iter().chain([&root]).try_for_each(|page| page.protect())?;
        Ok(Large { root, tables })
    }

    fn unprotect(&self) -> Told {
        self.tables.iter().chain([&self.root]).try_for_each(|page| page.unprotect())
    }
}

/// More tables than the hypervisor checks or takes apart in one go.
pub fn large_tree() -> Told {
    let large = Large::new(0)?;
    for _ in 0..3 {
        equal("pin", operate(pin(4, large.root.mfn)), Ok(0))?;
        let last = large.tables.last().copied().unwrap_or(large.root);
        refused("writable mapping", map(last.address, last.entry(WRITE)), Errno::EBUSY)?;
        equal("unpin", operate(unpin(large.root.mfn)), Ok(0))?;
    }
    large.unprotect()
}

/// The same with a bad entry in it: all that was done until it was found is undone.
pub fn large_tree_refused() -> Told {
    let large = Large::new(0xff_ffff_ffff << 12 | READ)?;
    for level in [4, 4] {
        let answer = operate(pin(level, large.root.mfn));
        holds("pin", matches!(answer, Err(Errno::EINVAL | Errno::EPERM)))?;
    }
    large.unprotect()
}
