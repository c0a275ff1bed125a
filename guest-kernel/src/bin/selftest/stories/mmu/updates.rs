//! `mmu_update`.

use super::ground::*;
use crate::check::{HYPERVISOR, NON_CANONICAL, Told, call, equal, holds, reads, refused, trapped};
use guest_kernel::hypercall::{self, Answer, Owner};
use guest_kernel::paging::{PAGE_SIZE, PRESENT, WRITABLE};
use guest_kernel::{memory, probe};
use pv_abi::domid::{DOMID_INVALID, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::hypercall::MMU_UPDATE;
use pv_abi::mmu::*;

/// An entry of each level goes in, is in force, and goes out again.
pub fn levels() -> Told {
    let tree = Tree::hooked()?;
    let page = Page::new();
    page.write(0, 0x1234_5678);
    let l1 = Page::read_only(&[page.entry(WRITE)])?;
    let l2 = Page::read_only(&[l1.entry(TABLE)])?;
    let l3 = Page::read_only(&[l2.entry(TABLE)])?;
    let cases = [
        ("level 1", tree.l1.slot(5), page.entry(WRITE), WINDOW + (5 << 12)),
        ("level 2", tree.l2.slot(5), l1.entry(TABLE), WINDOW + (5 << 21)),
        ("level 3", tree.l3.slot(5), l2.entry(TABLE), WINDOW + (5 << 30)),
        ("level 4", root_slot(WINDOW_SLOT + 5), l3.entry(TABLE), WINDOW + (5 << 39)),
    ];
    for (what, slot, entry, address) in cases {
        trapped(what, probe::read(address).err(), 14, 0)?;
        equal(what, set(slot, entry), Ok(0))?;
        equal("word behind the new entry", probe::read(address), Ok(0x1234_5678))?;
        // SAFETY: the page is the story's.
        equal("store behind it", unsafe { probe::write(address + 8, slot) }, Ok(()))?;
        equal("the word stored", page.read(1), slot)?;
        equal("out again", set(slot, 0), Ok(0))?;
        flush()?;
        trapped("after it", probe::read(address).err(), 14, 0)?;
    }
    // Nothing refers to the tables any more: they are plain pages.
    [l1, l2, l3].into_iter().try_for_each(Page::unprotect)
}

/// An entry stands in memory with its frame and the bits that are the guest's own, and where it is taken out, 0.
pub fn values() -> Told {
    const SOFTWARE: u64 = 7 << 9 | 0x1ff << 53;
    let tree = Tree::hooked()?;
    let page = Page::new();
    let keep = (PAGE_SIZE - 1) << 40 | !(PAGE_SIZE - 1) & 0x000f_ffff_ffff_ffff | SOFTWARE | PRESENT | WRITABLE;
    let keep = (keep & !(1 << 52)) | NO_EXECUTE;
    for flags in [READ, WRITE, READ | NO_EXECUTE, WRITE | SOFTWARE, PRESENT] {
        equal("set", set(tree.l1.slot(1), page.entry(flags)), Ok(0))?;
        equal("entry", tree.l1.read(1) & keep, page.entry(flags) & keep)?;
        // Written back as it was read, it is the same.
        let read = tree.l1.read(1);
        equal("write back", set(tree.l1.slot(1), read), Ok(0))?;
        equal("entry written back", tree.l1.read(1), read)?;
    }
    // What is not present may be anything that names no memory.
    for value in [0, 0xffe, 2, SOFTWARE] {
        equal("not present", set(tree.l1.slot(1), value), Ok(0))?;
        equal("entry", tree.l1.read(1), value)?;
    }
    for (table, child) in [(tree.l2, tree.l1), (tree.l3, tree.l2)] {
        equal("change of flags", set(table.slot(0), child.entry(TABLE | 1 << 9)), Ok(0))?;
        equal("entry", table.read(0) & keep, child.entry(TABLE | 1 << 9) & keep)?;
    }
    Ok(())
}

/// `MMU_PT_UPDATE_PRESERVE_AD` keeps the accessed and dirty bits, the plain command doesn't, and
/// `MMU_PT_UPDATE_NO_TRANSLATE` is the plain one to a domain that sees machine frames anyway.
pub fn commands() -> Told {
    const BOTH: u64 = ACCESSED | DIRTY;
    let tree = Tree::hooked()?;
    let (slot, plain) = (tree.l1.slot(0), tree.data.entry(PRESENT | WRITABLE));
    let accessed_dirty = || tree.l1.read(0) & BOTH;
    equal("with both bits", set(slot, plain | BOTH), Ok(0))?;
    equal("preserve", set(slot | MMU_PT_UPDATE_PRESERVE_AD, plain), Ok(0))?;
    equal("bits after preserving", accessed_dirty(), BOTH)?;
    equal("normal", set(slot | MMU_NORMAL_PT_UPDATE, plain), Ok(0))?;
    equal("bits after a plain update", accessed_dirty(), 0)?;
    equal("no translate", set(slot | MMU_PT_UPDATE_NO_TRANSLATE, plain | ACCESSED), Ok(0))?;
    equal("bits after it", accessed_dirty(), ACCESSED)?;
    // With another frame too.
    let other = Page::new();
    equal("preserve at another frame", set(slot | MMU_PT_UPDATE_PRESERVE_AD, other.entry(PRESENT)), Ok(0))?;
    equal("bits at another frame", tree.l1.read(0) & (PRESENT | BOTH | WRITABLE), PRESENT | ACCESSED)?;
    for bits in 4..8 {
        refused("not a command", set(slot | bits, 0), Errno::ENOSYS)?;
    }
    equal("entry after the refusals", tree.l1.read(0) & PRESENT, PRESENT)
}

/// To a page that is no table, an update is a store.
pub fn plain_stores() -> Told {
    let page = Page::new();
    for value in [1, u64::MAX, 0xdead_beef_0000_0001, 0] {
        equal("store", set(page.slot(7), value), Ok(0))?;
        equal("word", page.read(7), value)?;
    }
    page.protect()?;
    equal("store to a page mapped read-only", set(page.slot(7), 77), Ok(0))?;
    equal("word", page.read(7), 77)?;
    equal("preserving", set(page.slot(7) | MMU_PT_UPDATE_PRESERVE_AD, 78), Ok(0))?;
    equal("word", page.read(7), 78)
}

/// `MMU_MACHPHYS_UPDATE` writes the machine-to-physical table.
pub fn machine_to_physical() -> Told {
    let [a, b] = [Page::new(), Page::new()];
    let number = |page: Page| memory::pseudo_physical_frame(page.mfn);
    let change = |mfn: u64, pfn| set(mfn << 12 | MMU_MACHPHYS_UPDATE, pfn);
    let before = [number(a), number(b)];
    for (page, pfn) in [(a, before[1]), (b, before[0])] {
        equal("change", change(page.mfn, pfn.unwrap_or(0)), Ok(0))?;
    }
    equal("swapped", [number(b), number(a)], before)?;
    for (page, pfn) in [(a, before[0]), (b, before[1])] {
        equal("change back", change(page.mfn, pfn.unwrap_or(0)), Ok(0))?;
    }
    equal("as it was", [number(a), number(b)], before)?;
    for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff] {
        refused("no such frame", change(mfn, 0), Errno::EINVAL)?;
    }
    Ok(())
}

/// Updates of what isn't the domain's, or isn't aligned.
pub fn bad_slots() -> Told {
    for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff, 0xffff_ffff] {
        refused("no such frame", set(mfn * PAGE_SIZE, 0), Errno::EINVAL)?;
    }
    let tree = Tree::hooked()?;
    let before = tree.l1.read(0);
    refused("misaligned", set(tree.l1.slot(0) + 4, 0), Errno::ENOSYS)?;
    equal("entry after it", tree.l1.read(0), before)?;
    for slot in 256..272 {
        refused("slot of the hypervisor", set(root_slot(slot), 0), Errno::EINVAL)?;
        refused("slot of the hypervisor", set(root_slot(slot), tree.l3.entry(TABLE)), Errno::EINVAL)?;
    }
    Ok(())
}

/// Entries that no table may have.
pub fn bad_entries() -> Told {
    let tree = Tree::hooked()?;
    let page = Page::new();
    let tables = [(tree.l1.slot(1), page), (tree.l2.slot(1), tree.l1), (tree.l3.slot(1), tree.l2)];
    for (slot, child) in tables {
        let own = child.entry(PRESENT | ACCESSED);
        for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff] {
            let wild = mfn << 12 | PRESENT | ACCESSED;
            holds("no such frame", matches!(set(slot, wild), Err(Errno::EINVAL | Errno::EPERM | Errno::EBUSY)))?;
        }
        equal("the same with a frame of ours", set(slot, own), Ok(0))?;
        equal("out again", set(slot, 0), Ok(0))?;
    }
    for (slot, child) in &tables[1..] {
        for bit in [3, 4, 7, 8] {
            refused(&alloc::format!("bit {bit}"), set(*slot, child.entry(TABLE | 1 << bit)), Errno::EINVAL)?;
        }
    }
    if !is_privileged() {
        for bit in [3, 4, 7] {
            let entry = page.entry(READ | 1 << bit);
            refused(&alloc::format!("cache bit {bit}"), set(tree.l1.slot(1), entry), Errno::EINVAL)?;
        }
    }
    Ok(())
}

/// An update from a story's list, the answer and the count of updates that were made.
fn counted(list: &[MmuUpdate]) -> (Answer, u32) {
    let mut done = 0x5a5a;
    // SAFETY: the lists name pages of the story's.
    let answer = unsafe { hypercall::mmu_update(list, Some(&mut done), Owner::SELF) };
    (answer, done)
}

/// The list is done in order, up to the first refusal; the count says how far.
pub fn counts() -> Told {
    let page = Page::new();
    let store = |index: usize| MmuUpdate { ptr: page.slot(index), val: 100 + index as u64 };
    let bad = MmuUpdate { ptr: page.slot(0) | 4, val: 0 };
    equal("no updates", counted(&[]), (Ok(0), 0))?;
    equal("two updates", counted(&[store(0), store(1)]), (Ok(0), 2))?;
    equal("first bad", counted(&[bad, store(2)]), (Err(Errno::ENOSYS), 0))?;
    equal("third bad", counted(&[store(3), store(4), bad, store(5)]), (Err(Errno::ENOSYS), 2))?;
    equal("words", [0, 1, 2, 3, 4, 5].map(|n| page.read(n)), [100, 101, 0, 103, 104, 0])?;

    // More than the hypervisor does in one go.
    let list: alloc::vec::Vec<_> = (0..4096).map(|n| store(n % 512)).collect();
    equal("a long list", counted(&list), (Ok(0), 4096))?;
    equal("its last word", page.read(511), 611)
}

/// Lists that can't be read.
pub fn bad_lists() -> Told {
    let update = |list: u64, count: u64| call(MMU_UPDATE, [list, count, 0, u64::from(DOMID_SELF)]);
    for pointer in crate::check::BAD_POINTERS {
        refused(&alloc::format!("list at {pointer:#x}"), update(pointer, 1), Errno::EFAULT)?;
    }
    equal("no list", update(0, 0), Ok(0))?;
    for pointer in [HYPERVISOR, NON_CANONICAL] {
        for count in [0x7fff_ffff, 1 << 27] {
            refused("a huge list", update(pointer, count), Errno::EFAULT)?;
        }
    }
    // The first update is good, the rest lies where nothing is mapped: it is made, and counted.
    let page = Page::new();
    let last = memory::mapped_end() - size_of::<MmuUpdate>() as u64;
    // SAFETY: the last mapped bytes are heap that nothing uses.
    unsafe { (last as *mut MmuUpdate).write(MmuUpdate { ptr: page.slot(1), val: 9 }) };
    for (round, count) in [2, 0x7fff_ffff].into_iter().enumerate() {
        let mut done = 0u32;
        let args = [last, count, (&raw mut done) as u64, u64::from(DOMID_SELF)];
        refused("a list off the map", call(MMU_UPDATE, args), Errno::EFAULT)?;
        equal("updates done", (done, page.read(1)), (1, 9 + round as u64))?;
        // SAFETY: as above.
        unsafe { (last as *mut MmuUpdate).write(MmuUpdate { ptr: page.slot(1), val: 10 }) };
    }
    Ok(())
}

/// Other domains' tables and frames.
pub fn other_domains() -> Told {
    let page = Page::new();
    let update = MmuUpdate { ptr: page.slot(0), val: 5 };
    let by = |owner: u64| call(MMU_UPDATE, [reads(&update), 1, 0, owner]);
    equal("own frames", by(u64::from(DOMID_SELF)), Ok(0))?;
    for domain in [DOMID_INVALID, 0x7000, 1000] {
        refused("nobody's frames", by(u64::from(domain)), Errno::ESRCH)?;
        let tables = (u64::from(domain) + 1) << 16 | u64::from(DOMID_SELF);
        refused("nobody's tables", by(tables), Errno::ESRCH)?;
    }
    equal("word", page.read(0), 5)
}
