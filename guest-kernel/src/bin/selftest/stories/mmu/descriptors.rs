//! Descriptor pages: `set_gdt`, `update_descriptor`.
//!
//! What the CPU thinks of a descriptor is asked with `lar` and `lsl`, which don't load it.

use super::ground::*;
use crate::check::{BAD_POINTERS, Told, call, equal, holds, refused, trapped};
use alloc::format;
use core::arch::asm;
use guest_kernel::catch;
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::hypercall::{Answer, set_gdt, update_descriptor};
use guest_kernel::probe;
use guest_kernel::trap::Caught;
use pv_abi::errno::Errno;
use pv_abi::hypercall::SET_GDT;
use pv_abi::trap::FIRST_RESERVED_GDT_ENTRY;

/// A flat data segment of ring 3, writable, accessed.
pub const SEGMENT: u64 = 0x00cf_f300_0000_ffff;
/// The same for ring 0.
const RING_0_DATA: u64 = 0x00cf_9300_0000_ffff;
/// 64-bit code of ring 0.
const RING_0_CODE: u64 = 0x00af_9b00_0000_ffff;
/// A data segment of 4 KiB.
pub const SMALL: u64 = 0x0040_f300_0000_0fff;
/// A system descriptor that is present, but for its type.
pub const PRESENT_SYSTEM: u64 = 1 << 47;
/// The privilege level in what `lar` says.
const PRIVILEGE: u64 = 3 << 13;

/// The GDT consists of these frames.
pub fn gdt(frames: &[u64], entries: u32) -> Answer {
    // SAFETY: the segment registers hold the hypervisor's selectors, or what the story loads.
    unsafe { set_gdt(frames, entries) }
}

/// Writes a descriptor.
pub fn describe(slot: u64, descriptor: u64) -> Answer {
    // SAFETY: the stories name their own pages.
    unsafe { update_descriptor(slot, descriptor) }
}

/// Access rights and limit of the segment a selector names; `None` if ring 3 can't use it.
pub fn segment(selector: u16) -> Option<(u64, u64)> {
    let (rights, limit, found): (u64, u64, u8);
    // SAFETY: the instructions only read descriptors.
    unsafe {
        asm!("xor {rights:e}, {rights:e}", "xor {limit:e}, {limit:e}", "lar {rights:e}, {selector:e}", "setz {found}",
            "lsl {limit:e}, {selector:e}", rights = out(reg) rights, limit = out(reg) limit, found = out(reg_byte) found,
            selector = in(reg) u32::from(selector));
    }
    (found == 1).then_some((rights, limit))
}

/// Loads ES, which 64-bit code doesn't use.
pub fn load(selector: u16) -> Option<Caught> {
    // SAFETY: see above.
    unsafe { catch!(["mov es, {selector:e}"] selector = in(reg) u32::from(selector),) }
}

/// A GDT is installed, used, replaced and dropped; its pages are read-only as long.
pub fn gdt_frames() -> Told {
    equal("no GDT at start", segment(0x0b), None)?;
    let page = Page::read_only(&[0, SEGMENT, SMALL, RING_0_DATA, RING_0_CODE])?;
    equal("install", gdt(&[page.mfn], 5), Ok(0))?;
    equal("data segment", segment(0x0b).map(|(_, limit)| limit), Some(0xffff_ffff))?;
    equal("small segment", segment(0x13).map(|(_, limit)| limit), Some(0xfff))?;
    for selector in [0x0b, 0x13, 0x1b] {
        equal("load", load(selector), None)?;
    }
    // Those for ring 0 are ring 3's now.
    for selector in [0x1b, 0x23] {
        equal("privilege", segment(selector).map(|(rights, _)| rights & PRIVILEGE), Some(PRIVILEGE))?;
    }
    refused("writable mapping", map(page.address, page.entry(WRITE)), Errno::EBUSY)?;
    // SAFETY: the store must fault.
    trapped("store", unsafe { probe::write(page.address, 0) }.err(), 14, 3)?;

    let other = Page::read_only(&[0, SMALL])?;
    equal("replace", gdt(&[other.mfn], 2), Ok(0))?;
    equal("new segment", segment(0x0b).map(|(_, limit)| limit), Some(0xfff))?;
    page.unprotect()?;
    equal("ES back", load(0), None)?;
    equal("drop", gdt(&[], 0), Ok(0))?;
    equal("no segment any more", segment(0x0b), None)?;
    other.unprotect()
}

/// A GDT of several pages, the last entry of the guest's part, and the hypervisor's part behind it.
pub fn gdt_large() -> Told {
    let first = Page::read_only(&[0, SEGMENT])?;
    let last = Page::new();
    last.write(511, SMALL);
    last.protect()?;
    let mut frames = [first.mfn; 14];
    frames[13] = last.mfn;
    equal("install all", gdt(&frames, FIRST_RESERVED_GDT_ENTRY), Ok(0))?;
    equal("the last entry", segment(0xdffb).map(|(_, limit)| limit), Some(0xfff))?;
    equal("an entry of the second page", segment(0x100b).map(|(_, limit)| limit), Some(0xffff_ffff))?;
    equal("the hypervisor's", segment(0xe02b).is_some(), true)?;
    equal("shorter", gdt(&frames[..2], 513), Ok(0))?;
    equal("behind its end", segment(0xdffb), None)?;
    equal("drop", gdt(&[], 0), Ok(0))
}

/// GDTs that are refused leave the old one in force.
pub fn gdt_refusals() -> Told {
    let good = Page::read_only(&[0, SEGMENT])?;
    equal("install", gdt(&[good.mfn], 2), Ok(0))?;
    let writable = Page::new();
    let tree = Tree::protected()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    let mut bad = alloc::vec![("writable", writable.mfn), ("no frame", 0xff_ffff_ffff), ("no frame", u64::MAX)];
    bad.extend(tree.tables().map(|table| ("a page table", table.mfn)));
    for (what, mfn) in bad {
        refused(what, gdt(&[mfn], 1), Errno::EINVAL)?;
        refused(what, gdt(&[good.mfn, mfn], 513), Errno::EINVAL)?;
    }
    for (what, descriptor) in system_descriptors() {
        let page = Page::read_only(&[0, SEGMENT, descriptor])?;
        refused(&what, gdt(&[page.mfn], 3), Errno::EINVAL)?;
        page.unprotect()?;
    }
    let frames = [good.mfn; 15];
    for entries in [FIRST_RESERVED_GDT_ENTRY + 1, 8192, 65536, u32::MAX] {
        refused("too many", gdt(&frames, entries), Errno::EINVAL)?;
    }
    for pointer in BAD_POINTERS {
        refused("list", call(SET_GDT, [pointer, 1]), Errno::EFAULT)?;
    }
    equal("the old one", segment(0x0b).is_some(), true)?;
    equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
    equal("drop", gdt(&[], 0), Ok(0))?;
    good.unprotect()
}

/// Descriptors that would give a guest a gate into the hypervisor, or a table of its own.
pub fn system_descriptors() -> impl Iterator<Item = (alloc::string::String, u64)> {
    let of_type = |kind: u64| (format!("system descriptor {kind:#x}"), PRESENT_SYSTEM | kind << 40);
    // A call gate to the hypervisor's code, and one to the task state.
    let gate =
        |selector: u64| (format!("call gate to {selector:#x}"), PRESENT_SYSTEM | 3 << 45 | 0xc << 40 | selector << 16);
    [1, 2, 3, 4, 5, 6, 7, 9, 0xb, 0xe, 0xf].into_iter().map(of_type).chain([gate(0xe008), gate(0xe040)])
}

/// `update_descriptor` in a GDT that is in force, and in a plain page.
pub fn updates() -> Told {
    let page = Page::read_only(&[0, SEGMENT])?;
    equal("install", gdt(&[page.mfn], 512), Ok(0))?;
    equal("a small segment", describe(page.slot(1), SMALL), Ok(0))?;
    equal("its limit", segment(0x0b).map(|(_, limit)| limit), Some(0xfff))?;
    equal("ring 0", describe(page.slot(2), RING_0_CODE), Ok(0))?;
    equal("its privilege", segment(0x13).map(|(rights, _)| rights & PRIVILEGE), Some(PRIVILEGE))?;
    equal("none", describe(page.slot(1), 0), Ok(0))?;
    equal("no segment", segment(0x0b), None)?;
    // What isn't present may be anything.
    for (what, descriptor) in system_descriptors() {
        refused(&what, describe(page.slot(3), descriptor), Errno::EINVAL)?;
        equal("word after it", page.read(3), 0)?;
        equal("the same, not present", describe(page.slot(3), descriptor & !PRESENT_SYSTEM), Ok(0))?;
        holds("a segment all the same", load(0x1b).is_some())?;
        equal("cleared", describe(page.slot(3), 0), Ok(0))?;
    }

    let plain = Page::new();
    equal("in a plain page", describe(plain.slot(9), RING_0_DATA), Ok(0))?;
    holds("its word", plain.read(9) | 3 << 45 == SEGMENT)?;
    for (what, descriptor) in system_descriptors() {
        refused(&what, describe(plain.slot(8), descriptor), Errno::EINVAL)?;
    }
    for offset in 1..8 {
        refused("misaligned", describe(plain.slot(9) + offset, SEGMENT), Errno::EINVAL)?;
    }
    for mfn in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff] {
        refused("no such frame", describe(mfn << 12, SEGMENT), Errno::EINVAL)?;
    }
    let tree = Tree::protected()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    for table in tree.tables() {
        refused("in a page table", describe(table.slot(5), SEGMENT), Errno::EINVAL)?;
        equal("its entry", table.read(5), 0)?;
    }
    equal("unpin", operate(unpin(tree.l4.mfn)), Ok(0))?;
    equal("drop", gdt(&[], 0), Ok(0))
}
