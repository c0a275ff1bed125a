//! Descriptors that would lead into the hypervisor: gates, task states, segments of ring 0.

use crate::check::{Told, call, equal, holds, refused, trapped};
use crate::stories::mmu::descriptors::{PRESENT_SYSTEM, SEGMENT, describe, gdt, load, segment, system_descriptors};
use crate::stories::mmu::ground::*;
use crate::stories::mmu::ldt::ldt;
use alloc::format;
use guest_kernel::catch;
use guest_kernel::hypercall::{self, Flush, multicall_entry, multicall_result};
use guest_kernel::probe;
use guest_kernel::trap::{Caught, RECOVERY};
use pv_abi::errno::Errno;
use pv_abi::hypercall::{SET_SEGMENT_BASE, UPDATE_DESCRIPTOR, XEN_VERSION};
use pv_abi::trap::{SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use pv_abi::version::XENVER_PAGESIZE;

/// 64-bit code of ring 0, and the same conforming: a call to it keeps the caller's ring.
const CODE_RING_0: u64 = 0x00af_9b00_0000_ffff;
const CONFORMING_RING_0: u64 = 0x00af_9f00_0000_ffff;

/// A far call through a selector.
fn far_call(selector: u16) -> Option<Caught> {
    #[repr(C)]
    struct Pointer(u64, u16);
    let pointer = Pointer(0x1234, selector);
    // SAFETY: the call must trap; it may have pushed its return address by then.
    unsafe {
        catch!(["lea rax, [rip + 3f]", "mov [rip + {slot}], rax", "mov {saved}, rsp", ".byte 0x48, 0xff, 0x19",
            "3: mov rsp, {saved}"] slot = sym RECOVERY, saved = out(reg) _, in("rcx") &raw const pointer,)
    }
}

/// Bad descriptors by every way into a descriptor table: as a whole page, one by one, in a list, and in a page that is
/// already in force.
pub fn into_tables() -> Told {
    let page = Page::read_only(&[0, SEGMENT])?;
    equal("GDT", gdt(&[page.mfn], 512), Ok(0))?;
    for (what, descriptor) in system_descriptors() {
        for privilege in [0, 3] {
            let descriptor = descriptor & !(3 << 45) | privilege << 45;
            refused(&what, describe(page.slot(2), descriptor), Errno::EINVAL)?;
            let mut list = [multicall_entry(UPDATE_DESCRIPTOR, [page.slot(2), descriptor, 0, 0, 0, 0])];
            // SAFETY: the descriptor is in no register.
            equal("list", unsafe { hypercall::multicall(&mut list) }, Ok(0))?;
            equal(&what, multicall_result(&list[0]), Err(Errno::EINVAL))?;
            equal("the word", page.read(2), 0)?;
            for index in [0, 1, 255, 511] {
                let whole = Page::new();
                whole.write(index, descriptor);
                whole.protect()?;
                refused(&what, gdt(&[page.mfn, whole.mfn], 1024), Errno::EINVAL)?;
                whole.unprotect()?;
            }
            let in_ldt = Page::read_only(&[SEGMENT, descriptor])?;
            equal("LDT", ldt(in_ldt.address, 512), Ok(0))?;
            equal(&what, load(0x07).map(|caught| caught.vector), Some(14))?;
            equal("no LDT", ldt(0, 0), Ok(0))?;
            in_ldt.unprotect()?;
        }
    }
    equal("the GDT's segment", segment(0x0b).is_some(), true)
}

/// Call gates that are accepted are of no use, and the hypervisor's segments neither.
pub fn calls() -> Told {
    let page = Page::read_only(&[0, SEGMENT, CODE_RING_0, CONFORMING_RING_0])?;
    equal("GDT", gdt(&[page.mfn], 512), Ok(0))?;
    let gates = [0xe033u64, 0xe023, 0x10, 0x1b, 0xe008, 0xe04b, 0x0c];
    for target in gates {
        let gate = PRESENT_SYSTEM | 3 << 45 | 0xc << 40 | target << 16 | 0x1234;
        let accepted = describe(page.slot(8), gate).is_ok();
        if accepted {
            equal("its second half", describe(page.slot(9), 0), Ok(0))?;
        }
        for selector in [0x40, 0x43] {
            let caught = far_call(selector);
            holds(
                &format!("call of a gate to {target:#x}: {caught:?}"),
                matches!(caught, Some(Caught { vector: 10..=13, .. })),
            )?;
        }
        let _ = describe(page.slot(8), 0);
    }
    for selector in [0xe008, 0xe00b, 0xe010, 0xe040, 0xe043, 0xe048, 0xe050, 0xfff8, 0xffff] {
        let caught = far_call(selector);
        holds(&format!("call of {selector:#x}: {caught:?}"), matches!(caught, Some(Caught { vector: 10..=13, .. })))?;
        let loaded = load(selector);
        holds(&format!("load of {selector:#x}: {loaded:?}"), matches!(loaded, Some(Caught { vector: 10..=13, .. })))?;
        holds("its rights can be seen", segment(selector).is_none())?;
    }
    // A segment that says ring 0 is ring 3's, so a call to it goes nowhere special: to an address that isn't mapped.
    for selector in [0x13, 0x1b] {
        let rights = segment(selector).map(|(rights, _)| rights >> 13 & 3);
        equal("privilege", rights, Some(3))?;
        trapped("call", far_call(selector), 14, 1 << 4)?;
    }
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}

/// Segments that aren't present, which the hypervisor loads on the guest's behalf: what the CPU raises there is neither #GP
/// nor #PF.
pub fn absent_segments() -> Told {
    const KERNEL_GS_BASE: u32 = 0xc000_0102;
    const PRESENT: u64 = 1 << 47;
    /// Code that can be read, ring 3.
    const CODE: u64 = 0x00cf_fb00_0000_ffff;
    let absent = [0, SEGMENT & !PRESENT, CODE & !PRESENT];
    let (in_gdt, in_ldt) = (Page::read_only(&absent)?, Page::read_only(&absent)?);
    equal("GDT", gdt(&[in_gdt.mfn], 512), Ok(0))?;
    equal("LDT", ldt(in_ldt.address, 512), Ok(0))?;
    for selector in [0x0b, 0x13, 0x0f, 0x17] {
        let error_code = u32::from(selector & !3);
        equal("load", load(selector), Some(Caught { vector: 11, error_code }))?;
        equal("a base", call(SET_SEGMENT_BASE, [SEGBASE_GS_USER.into(), 0x1000]), Ok(0))?;
        equal("by selector", call(SET_SEGMENT_BASE, [SEGBASE_GS_USER_SEL.into(), selector.into()]), Ok(0))?;
        equal("its base", probe::rdmsr(KERNEL_GS_BASE), Ok(0))?;
    }
    equal("no LDT", ldt(0, 0), Ok(0))?;
    equal("no GDT", gdt(&[], 0), Ok(0))
}

/// A page becomes a descriptor page while the TLB still lets the guest write to it.
pub fn stale_translations() -> Told {
    let tree = Tree::hooked()?;
    for as_ldt in [false, true] {
        let page = Page::new();
        page.write(1, SEGMENT);
        let alias = WINDOW + 4096;
        equal("another mapping", set(tree.l1.slot(1), page.entry(WRITE)), Ok(0))?;
        for address in [page.address, alias] {
            // SAFETY: the page is the story's.
            equal("store", unsafe { probe::write(address + 16, 0) }, Ok(()))?;
        }
        equal("out again", set(tree.l1.slot(1), 0), Ok(0))?;
        // SAFETY: as above.
        let kept = unsafe { hypercall::update_va_mapping(page.address, page.entry(READ), Flush::None) };
        equal("read-only, without a flush", kept, Ok(0))?;
        if as_ldt {
            equal("LDT", ldt(page.address, 512), Ok(0))?;
            equal("its segment", load(0x0f), None)?;
        } else {
            equal("GDT", gdt(&[page.mfn], 512), Ok(0))?;
            equal("its segment", load(0x0b), None)?;
        }
        for address in [page.address, alias] {
            // SAFETY: the store must fault.
            let stored = unsafe { probe::write(address + 16, PRESENT_SYSTEM | 9 << 40) };
            holds("store through the old mapping", stored.is_err_and(|caught| caught.vector == 14))?;
        }
        equal("the word", page.read(2), 0)?;
        equal("ES back", load(0), None)?;
    }
    equal("no LDT", ldt(0, 0), Ok(0))?;
    equal("no GDT", gdt(&[], 0), Ok(0))
}
