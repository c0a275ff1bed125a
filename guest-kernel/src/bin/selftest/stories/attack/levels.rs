//! Confusion of types: a table of one level in the place of another's, descriptor pages as tables and the reverse.

use super::writable::{is_sealed, tables_in_use};
use crate::check::{Told, UNMAPPED, equal, holds, refused};
use crate::stories::mmu::descriptors::{SEGMENT, describe, gdt, load, segment};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::ldt::ldt;
use crate::stories::mmu::reservation::give;
use alloc::format;
use guest_kernel::hypercall::mmuext::{clear_page, copy_page, new_base, new_user_base, pin};
use guest_kernel::start::start_info;
use guest_kernel::{probe, shared};
use pv_abi::errno::Errno;

/// Every table in every place but its own.
pub fn places() -> Told {
    let tree = tables_in_use()?;
    let tables = tree.tables();
    let levels = [4u32, 3, 2, 1];
    for (table, level) in tables.into_iter().zip(levels) {
        for (place, place_level) in tables.into_iter().zip(levels).filter(|(_, place)| *place > 1) {
            if place_level == level + 1 || place_level == level {
                continue;
            }
            let what = format!("level {level} in a table of level {place_level}");
            refused(&what, set(place.slot(9), table.entry(TABLE)), Errno::EINVAL)?;
            equal("the entry", place.read(9), 0)?;
        }
        for other in (1..=4).filter(|other| *other != level) {
            let what = format!("level {level} pinned as {other}");
            refused(&what, operate(pin(other, table.mfn)), Errno::EINVAL)?;
        }
        if level != 4 {
            refused("kernel root", operate(new_base(table.mfn)), Errno::EINVAL)?;
            refused("user root", operate(new_user_base(table.mfn)), Errno::EINVAL)?;
        }
        is_sealed(table)?;
    }
    Ok(())
}

/// Tables are no descriptor pages, and nothing is written to them as to plain pages.
pub fn tables_as_others() -> Told {
    let tree = tables_in_use()?;
    let page = Page::new();
    for table in tree.tables() {
        let entry = table.read(0);
        refused("as GDT", gdt(&[table.mfn], 1), Errno::EINVAL)?;
        refused("a descriptor in it", describe(table.slot(9), SEGMENT), Errno::EINVAL)?;
        refused("cleared", operate(clear_page(table.mfn)), Errno::EINVAL)?;
        refused("copied to", operate(copy_page(table.mfn, page.mfn)), Errno::EINVAL)?;
        equal("as LDT", ldt(table.address, 512), Ok(0))?;
        equal("a segment in it", load(0x07).map(|caught| caught.vector), Some(14))?;
        equal("no LDT", ldt(0, 0), Ok(0))?;
        equal("its words", [table.read(0), table.read(9)], [entry, 0])?;
    }
    Ok(())
}

/// Descriptor pages in force are no tables, can't be written, and stay what they are when they are given back.
pub fn descriptor_pages() -> Told {
    let tree = tables_in_use()?;
    let [gdt_page, ldt_page] = [Page::read_only(&[0, SEGMENT])?, Page::read_only(&[SEGMENT])?];
    equal("GDT", gdt(&[gdt_page.mfn], 512), Ok(0))?;
    equal("LDT", ldt(ldt_page.address, 512), Ok(0))?;
    equal("LDT in use", segment(0x07).is_some(), true)?;
    for page in [gdt_page, ldt_page] {
        let word = page.read(1);
        refused("mapped writable", map(page.address, page.entry(WRITE)), Errno::EBUSY)?;
        refused("mapped writable", set(tree.l1.slot(9), page.entry(WRITE)), Errno::EBUSY)?;
        equal("mapped read-only", set(tree.l1.slot(9), page.entry(READ)), Ok(0))?;
        refused("and then writable", set(tree.l1.slot(9), page.entry(WRITE)), Errno::EBUSY)?;
        equal("out again", set(tree.l1.slot(9), 0), Ok(0))?;
        for level in 1..=4 {
            refused("pinned", operate(pin(level, page.mfn)), Errno::EINVAL)?;
        }
        for table in [tree.l2, tree.l3, tree.l4] {
            refused("as a table", set(table.slot(9), page.entry(TABLE)), Errno::EINVAL)?;
        }
        let stored = set(page.slot(1), 0);
        holds("stored to", matches!(stored, Err(Errno::EINVAL)))?;
        refused("cleared", operate(clear_page(page.mfn)), Errno::EINVAL)?;
        equal("its word", page.read(1), word)?;

        equal("given back", give(&[page.mfn]), Ok(1))?;
        refused("mapped writable", map(page.address, page.entry(WRITE)), Errno::EBUSY)?;
        equal("its word", page.read(1), word)?;
    }
    equal("the GDT's segment", segment(0x0b).is_some(), true)?;
    equal("the LDT's segment", segment(0x07).is_some(), true)?;
    equal("no LDT", ldt(0, 0), Ok(0))?;
    equal("no GDT", gdt(&[], 0), Ok(0))
}

/// The page shared with the hypervisor is the domain's to map, and nothing else.
pub fn shared_page() -> Told {
    let mfn = start_info().shared_info >> 12;
    for level in 1..=4 {
        refused("pinned", operate(pin(level, mfn)), Errno::EINVAL)?;
    }
    refused("kernel root", operate(new_base(mfn)), Errno::EINVAL)?;
    refused("user root", operate(new_user_base(mfn)), Errno::EINVAL)?;
    refused("as GDT", gdt(&[mfn], 1), Errno::EINVAL)?;
    let tree = tables_in_use()?;
    for table in [tree.l2, tree.l3, tree.l4] {
        refused("as a table", set(table.slot(9), mfn << 12 | TABLE), Errno::EINVAL)?;
    }
    equal("mapped", set(tree.l1.slot(9), mfn << 12 | WRITE), Ok(0))?;
    let given = give(&[mfn]);
    holds("given back", matches!(given, Ok(0 | 1)))?;
    equal("mapped still", set(tree.l1.slot(10), mfn << 12 | WRITE), Ok(0))?;
    // The hypervisor still uses it.
    equal("an access to nothing", probe::read(UNMAPPED).is_err(), true)?;
    holds("address of the fault", shared::fault_address().is_none_or(|address| address == UNMAPPED))
}
