//! Mappings, and what they leave in the granter's table.

use super::*;
use crate::check::holds;
use guest_kernel::paging::{PRESENT, USER, WRITABLE, frame};
use guest_kernel::probe;

const IN_USE: u16 = GTF_READING | GTF_WRITING;

fn write(address: u64, value: u64) -> bool {
    // SAFETY: the address is in the window.
    unsafe { probe::write(address, value) }.is_ok()
}

/// A grant is mapped for writing and for reading, and the table says so as long as it is.
pub fn map() -> Told {
    let tree = Tree::hooked()?;
    let page = patterned(0x11);
    let grant = granted(page, Access::Write)?;
    let done = map_at(page_at(1), HOST, grant.reference())?;
    equal("status", done.status, GNTST_OKAY)?;
    equal("address for devices", done.dev_bus_addr, page.mfn * PAGE_SIZE)?;
    let leaf = tree.l1.read(1);
    equal("frame", frame(leaf), page.mfn)?;
    equal("rights", leaf & (PRESENT | WRITABLE | USER | NO_EXECUTE), PRESENT | WRITABLE | USER | NO_EXECUTE)?;
    equal("a word", probe::read(page_at(1) + 8 * 77), Ok(0x11 << 32 | 77))?;
    holds("write", write(page_at(1), 5))?;
    equal("written", page.read(0), 5)?;
    equal("flags", flags(&grant)? & IN_USE, IN_USE)?;
    let grant = match grant.end() {
        Ok(()) => return crate::check::fail("a grant ended while it was mapped"),
        Err(grant) => grant,
    };

    let reader = mapped(page_at(2), HOST | READ_ONLY, grant.reference())?;
    equal("rights to read", tree.l1.read(2) & (PRESENT | WRITABLE), PRESENT)?;
    equal("a word", probe::read(page_at(2)), Ok(5))?;
    holds("no write", !write(page_at(2), 6))?;
    unmapped(page_at(1), done.handle)?;
    equal("flags with the reader", flags(&grant)? & IN_USE, GTF_READING)?;
    holds("nothing there any more", probe::read(page_at(1)).is_err())?;
    equal("the entry", tree.l1.read(1), 0)?;
    unmapped(page_at(2), reader)?;
    equal("flags with nobody", flags(&grant)? & IN_USE, 0)?;
    equal("twice", unmap(page_at(2), 0, reader)?, GNTST_BAD_HANDLE)?;
    ended(grant)
}

/// A grant for reading only.
pub fn read_only() -> Told {
    let _tree = Tree::hooked()?;
    let grant = granted(patterned(0x22), Access::Read)?;
    equal("writable", map_status(page_at(1), HOST, grant.reference())?, GNTST_GENERAL_ERROR)?;
    equal("nothing is in use", flags(&grant)? & IN_USE, 0)?;
    let handle = mapped(page_at(1), HOST | READ_ONLY, grant.reference())?;
    equal("flags", flags(&grant)? & IN_USE, GTF_READING)?;
    equal("writable yet", map_status(page_at(2), HOST, grant.reference())?, GNTST_GENERAL_ERROR)?;
    unmapped(page_at(1), handle)?;
    ended(grant)
}

/// The mapping's page-table entry named by its machine address.
pub fn by_entry() -> Told {
    let tree = Tree::hooked()?;
    let page = patterned(0x33);
    let grant = granted(page, Access::Write)?;
    let slot = tree.l1.slot(5);
    let handle = mapped(slot, HOST | BY_ENTRY, grant.reference())?;
    equal("a word", probe::read(page_at(5) + 8), Ok(0x33 << 32 | 1))?;
    equal("by the page's address", unmap(page_at(5), 0, handle)?, GNTST_GENERAL_ERROR)?;
    equal("by another entry", unmap(tree.l1.slot(6), 0, handle)?, GNTST_GENERAL_ERROR)?;
    unmapped(slot, handle)?;
    holds("nothing there any more", probe::read(page_at(5)).is_err())?;
    for (what, at) in [
        ("askew", slot + 1),
        ("askew", slot + 4),
        ("no table", page.slot(0)),
        ("a level 2 table", tree.l2.slot(1)),
        ("the root", root_slot(3)),
        ("no memory", 0xff_ffff_f000),
    ] {
        equal(what, map_status(at, HOST | BY_ENTRY, grant.reference())?, GNTST_GENERAL_ERROR)?;
    }
    ended(grant)
}

/// For devices, alone and together with a mapping.
pub fn devices() -> Told {
    let _tree = Tree::hooked()?;
    let page = patterned(0x44);
    let grant = granted(page, Access::Write)?;
    let address = page.mfn * PAGE_SIZE;
    let device = map_at(0, DEVICE, grant.reference())?;
    equal("for a device", (device.status, device.dev_bus_addr), (GNTST_OKAY, address))?;
    equal("flags", flags(&grant)? & IN_USE, IN_USE)?;
    equal("another address", unmap(0, address + PAGE_SIZE, device.handle)?, GNTST_GENERAL_ERROR)?;
    equal("no address", unmap(0, 0, device.handle)?, GNTST_OKAY)?;
    equal("flags yet", flags(&grant)? & IN_USE, IN_USE)?;
    equal("the address", unmap(0, address, device.handle)?, GNTST_OKAY)?;
    equal("flags then", flags(&grant)? & IN_USE, 0)?;

    let both = mapped(page_at(1), HOST | DEVICE, grant.reference())?;
    equal("the page", unmap(page_at(1), 0, both)?, GNTST_OKAY)?;
    equal("flags with the device", flags(&grant)? & IN_USE, IN_USE)?;
    equal("the device", unmap(0, address, both)?, GNTST_OKAY)?;
    equal("nothing is left", unmap(0, address, both)?, GNTST_BAD_HANDLE)?;
    let both = mapped(page_at(1), HOST | DEVICE | READ_ONLY, grant.reference())?;
    equal("both at once", unmap(page_at(1), address, both)?, GNTST_OKAY)?;
    ended(grant)
}

/// A grant is used 128 times in each way, not more.
pub fn counts() -> Told {
    let grant = granted(patterned(0x55), Access::Write)?;
    let mut handles = alloc::vec::Vec::new();
    for _ in 0..128 {
        handles.push(mapped(0, DEVICE, grant.reference())?);
    }
    equal("once more", map_status(0, DEVICE, grant.reference())?, GNTST_GENERAL_ERROR)?;
    let address = entry(grant.reference())?.load(SeqCst) >> 32 << 12;
    for handle in handles {
        equal("flags", flags(&grant)? & IN_USE, IN_USE)?;
        equal("unmap", unmap(0, address, handle)?, GNTST_OKAY)?;
    }
    ended(grant)
}

/// Long lists: each request has its own status, and those that fail don't stop the others.
pub fn lists() -> Told {
    const COUNT: u32 = 300;
    let tree = Tree::hooked()?;
    let own = own_id()?;
    let pages: alloc::vec::Vec<Page> = (0..4).map(patterned).collect();
    let mut grants = alloc::vec::Vec::new();
    for page in &pages {
        grants.push(granted(*page, Access::Write)?);
    }
    let good = |n: u32| n % 7 != 3;
    let mut maps: alloc::vec::Vec<_> = (0..COUNT)
        .map(|n| GnttabMapGrantRef {
            host_addr: page_at(u64::from(n) + 1),
            flags: if n % 2 == 0 { HOST } else { HOST | READ_ONLY },
            gref: if good(n) { grants[n as usize % 4].reference() } else { 0x00ff_ffff },
            dom: own,
            status: 77,
            ..Default::default()
        })
        .collect();
    // SAFETY: the window is the story's.
    equal("map", unsafe { hypercall::grant_map(&mut maps) }, Ok(0))?;
    for (n, done) in (0..).zip(&maps) {
        equal("status", done.status, if good(n) { GNTST_OKAY } else { GNTST_BAD_GNTREF })?;
        let word = probe::read(done.host_addr + 16).ok();
        equal("word", word, good(n).then_some(u64::from(n % 4) << 32 | 2))?;
    }
    let mut unmaps: alloc::vec::Vec<_> = maps
        .iter()
        .map(|done| GnttabUnmapGrantRef {
            host_addr: done.host_addr,
            handle: if done.status == GNTST_OKAY { done.handle } else { u32::MAX },
            status: 77,
            ..Default::default()
        })
        .collect();
    // SAFETY: as above.
    equal("unmap", unsafe { hypercall::grant_unmap(&mut unmaps) }, Ok(0))?;
    for (n, done) in (0..).zip(&unmaps) {
        equal("status", done.status, if good(n) { GNTST_OKAY } else { GNTST_BAD_HANDLE })?;
    }
    holds("entries", (1..512).all(|index| tree.l1.read(index) == 0))?;
    grants.into_iter().try_for_each(ended)
}
