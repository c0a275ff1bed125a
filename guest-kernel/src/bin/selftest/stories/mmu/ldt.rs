//! `MMUEXT_SET_LDT`. Pages of an LDT become descriptor pages at their first use.

use super::descriptors::{PRESENT_SYSTEM, SEGMENT, SMALL, describe, load, segment};
use super::ground::*;
use super::roots::copy_of_root;
use crate::check::{HYPERVISOR, NON_CANONICAL, Told, equal, refused};
use guest_kernel::hypercall::Answer;
use guest_kernel::hypercall::mmuext::{new_base, set_ldt};
use guest_kernel::probe;
use guest_kernel::trap::Caught;
use pv_abi::errno::Errno;

/// The LDT lies at `address`.
pub fn ldt(address: u64, entries: u32) -> Answer {
    operate(set_ldt(address, entries))
}

/// An LDT is used page by page; each becomes a descriptor page at its first use.
pub fn uses() -> Told {
    let page = Page::read_only(&[SMALL, SEGMENT])?;
    equal("set", ldt(page.address, 512), Ok(0))?;
    equal("first entry", segment(0x07).map(|(_, limit)| limit), Some(0xfff))?;
    equal("load", load(0x0f), None)?;
    refused("writable mapping", map(page.address, page.entry(WRITE)), Errno::EBUSY)?;
    equal("change an entry", describe(page.slot(0), SEGMENT), Ok(0))?;
    equal("first entry", segment(0x07).map(|(_, limit)| limit), Some(0xffff_ffff))?;
    equal("an entry that isn't present", load(0x17), Some(Caught { vector: 13, error_code: 0x14 }))?;
    equal("ES back", load(0), None)?;

    equal("shorter", ldt(page.address, 1), Ok(0))?;
    equal("behind its end", load(0x0f), Some(Caught { vector: 13, error_code: 0x0c }))?;
    equal("none", ldt(0, 0), Ok(0))?;
    equal("without an LDT", load(0x07), Some(Caught { vector: 13, error_code: 0x04 }))?;
    page.unprotect()
}

/// Another root may map another page there, so that the LDT's pages are let go with the old one.
pub fn new_root() -> Told {
    let page = Page::read_only(&[SMALL])?;
    equal("set", ldt(page.address, 512), Ok(0))?;
    equal("first entry", segment(0x07).map(|(_, limit)| limit), Some(0xfff))?;
    refused("writable mapping", map(page.address, page.entry(WRITE)), Errno::EBUSY)?;
    let before = root();
    let other = copy_of_root()?;
    equal("another root", operate(new_base(other.mfn)), Ok(0))?;
    page.unprotect()?;
    equal("the old one", operate(new_base(before)), Ok(0))?;
    equal("no LDT", ldt(0, 0), Ok(0))?;
    other.unprotect()
}

/// An LDT page that can't be a descriptor page: the use of its entries faults, at the entry's address.
pub fn unusable() -> Told {
    let writable = Page::new();
    writable.write(0, SEGMENT);
    let system = Page::read_only(&[SEGMENT, PRESENT_SYSTEM | 9 << 40])?;
    let hole = Page::new();
    equal("unmap", map(hole.address, 0), Ok(0))?;
    for (what, address) in [("writable", writable.address), ("bad descriptor", system.address), ("hole", hole.address)]
    {
        equal("set", ldt(address, 512), Ok(0))?;
        let caught = load(0x0f);
        equal(what, caught.map(|caught| caught.vector), Some(14))?;
        equal("address of the fault", probe::cr2(), Ok(address + 8))?;
    }
    equal("none", ldt(0, 0), Ok(0))
}

/// Places where no LDT can be.
pub fn refusals() -> Told {
    let page = Page::read_only(&[SEGMENT])?;
    for address in [page.address + 8, page.address + 1, NON_CANONICAL, HYPERVISOR, 1 << 63] {
        refused("address", ldt(address, 1), Errno::EINVAL)?;
    }
    for entries in [8193, 65536, u32::MAX] {
        refused("entries", ldt(page.address, entries), Errno::EINVAL)?;
    }
    equal("all entries", ldt(page.address, 8192), Ok(0))?;
    equal("first entry", segment(0x07).is_some(), true)?;
    equal("none, with any address", ldt(page.address + 1, 0), Ok(0))?;
    equal("no entry", segment(0x07), None)
}
