//! `memory_op`: giving frames back, getting others, exchanging them.

use super::ground::*;
use crate::check::{
    BAD_POINTERS, Ending, HYPERVISOR, NON_CANONICAL, Told, call, equal, fail, holds, reads, refused, trapped, writes,
};
use guest_kernel::hypercall::mmuext::{pin, unpin};
use guest_kernel::hypercall::{self, Answer};
use guest_kernel::paging::PAGE_SIZE;
use guest_kernel::start::VIRT_BASE;
use guest_kernel::{memory, probe};
use pv_abi::domid::{DOMID_INVALID, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::hypercall::MEMORY_OP;
use pv_abi::memory::*;

/// Frames that the domain owns now.
pub fn owned() -> u64 {
    let me = MemoryDomain { domid: DOMID_SELF };
    call(MEMORY_OP, [u64::from(XENMEM_CURRENT_RESERVATION), reads(&me)]).unwrap_or(0)
}

/// Gives frames back; the answer is how many.
pub fn give(frames: &[u64]) -> Answer {
    // SAFETY: the stories give pages that they have taken for themselves.
    unsafe { hypercall::decrease_reservation(frames, 0) }
}

/// A `memory_op` about a list of extents.
pub fn reservation(command: u32, argument: &MemoryReservation) -> Answer {
    call(MEMORY_OP, [u64::from(command), reads(argument)])
}

/// A list of frames of the calling domain.
pub fn list(frames: &mut [u64]) -> MemoryReservation {
    MemoryReservation {
        extent_start: frames.as_mut_ptr() as u64,
        nr_extents: frames.len() as u64,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    }
}

/// A page that is mapped nowhere any more.
fn unmapped_page() -> Result<Page, Ending> {
    let page = Page::new();
    equal("unmap", map(page.address, 0), Ok(0))?;
    Ok(page)
}

/// A page is given back, and another comes in its place.
pub fn give_and_take() -> Told {
    let page = unmapped_page()?;
    let Some(pfn) = memory::pseudo_physical_frame(page.mfn) else { return fail("a page without a number") };
    let before = owned();
    equal("give", give(&[page.mfn]), Ok(1))?;
    equal("frames after it", owned(), before - 1)?;
    let answer = map(page.address, page.entry(READ));
    holds("map what was given", matches!(answer, Err(Errno::EBUSY | Errno::EPERM | Errno::EINVAL)))?;

    let mut frames = [pfn];
    equal("populate", hypercall::populate_physmap(&mut frames, 0, 0), Ok(1))?;
    equal("frames after it", owned(), before)?;
    equal("its number", memory::pseudo_physical_frame(frames[0]), Some(pfn))?;
    let fresh = Page { mfn: frames[0], ..page };
    fresh.unprotect()?;
    holds("somebody's data in a fresh page", (0..512).all(|n| fresh.read(n) == 0))?;
    fresh.write(1, 5);
    equal("its word", fresh.read(1), 5)?;

    let page = unmapped_page()?;
    equal("give", give(&[page.mfn]), Ok(1))?;
    let mut frames = [0];
    equal("increase", hypercall::increase_reservation(&mut frames, 0, 0), Ok(1))?;
    equal("frames after it", owned(), before)?;
    Page { mfn: frames[0], ..page }.unprotect()
}

/// Many at once.
pub fn many() -> Told {
    let before = owned();
    let mut pages = alloc::vec::Vec::new();
    for _ in 0..64 {
        pages.push(unmapped_page()?);
    }
    let mut frames: alloc::vec::Vec<_> = pages.iter().map(|page| page.mfn).collect();
    let mut numbers = alloc::vec::Vec::new();
    for mfn in &frames {
        numbers.push(memory::pseudo_physical_frame(*mfn).unwrap_or(0));
    }
    equal("give", give(&frames), Ok(64))?;
    equal("frames after it", owned(), before - 64)?;
    frames.copy_from_slice(&numbers);
    equal("populate", hypercall::populate_physmap(&mut frames, 0, 0), Ok(64))?;
    equal("frames after it", owned(), before)?;
    for (page, mfn) in pages.iter().zip(&frames) {
        Page { mfn: *mfn, ..*page }.unprotect()?;
    }
    Ok(())
}

/// A page in use is given back: it is the domain's as long as the use lasts, and can't be put to another.
pub fn in_use() -> Told {
    let page = Page::new();
    page.write(0, 77);
    let before = owned();
    equal("give a mapped page", give(&[page.mfn]), Ok(1))?;
    equal("its word", page.read(0), 77)?;
    equal("unmap", map(page.address, 0), Ok(0))?;
    equal("it counts no more", owned(), before - 1)?;
    let answer = map(page.address, page.entry(READ));
    holds("map it again", matches!(answer, Err(Errno::EBUSY | Errno::EPERM | Errno::EINVAL)))?;

    // What holds a table keeps it a table.
    let tree = Tree::protected()?;
    equal("pin", operate(pin(4, tree.l4.mfn)), Ok(0))?;
    equal("give a table in use", give(&[tree.l1.mfn]), Ok(1))?;
    refused("make it writable", map(tree.l1.address, tree.l1.entry(WRITE)), Errno::EBUSY)?;
    equal("its entry", tree.l1.read(0) & !4095 & !(1 << 52), tree.data.entry(0))?;
    equal("give the root", give(&[tree.l4.mfn]), Ok(1))?;
    // The pin may go with the page, or end by itself now.
    let answer = operate(unpin(tree.l4.mfn));
    holds("unpin the root", matches!(answer, Ok(0) | Err(Errno::EINVAL)))?;
    tree.l2.unprotect()
}

/// Frames that aren't the domain's, lists that can't be read, sizes that are too large: nothing is done, or what comes
/// before.
pub fn refusals() -> Told {
    let before = owned();
    let page = unmapped_page()?;
    for bad in [0xff_ffff_ffff, 0xf_ffff_ffff_ffff, u64::MAX] {
        equal("no such frame", give(&[bad]), Ok(0))?;
        equal("the first of two", give(&[bad, page.mfn]), Ok(0))?;
    }
    equal("the second of two", give(&[page.mfn, 0xff_ffff_ffff]), Ok(1))?;
    let mut frames = [number(page)];
    equal("back again", hypercall::populate_physmap(&mut frames, 0, 0), Ok(1))?;
    equal("frames", owned(), before)?;
    bad_lists(Page { mfn: frames[0], ..page }, before)
}

/// The pseudo-physical frame number of a page.
fn number(page: Page) -> u64 {
    (page.address - VIRT_BASE) / PAGE_SIZE
}

fn bad_lists(page: Page, before: u64) -> Told {
    let commands = [XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP];
    for command in commands {
        let nothing = |what: &str, answer: Answer| equal(what, answer, Ok(0));
        for pointer in BAD_POINTERS {
            nothing("argument", call(MEMORY_OP, [u64::from(command), pointer]))?;
        }
        let mut frames = [page.mfn];
        let good = list(&mut frames);
        for pointer in [HYPERVISOR, NON_CANONICAL] {
            let bad = MemoryReservation { extent_start: pointer, ..good };
            nothing("list", reservation(command, &bad))?;
        }
        for order in [21, 32, 64, 255, u32::MAX] {
            let bad = MemoryReservation { extent_order: order, ..good };
            nothing("order", reservation(command, &bad))?;
        }
        for count in [1 << 32, 1 << 60, u64::MAX] {
            let bad = MemoryReservation { nr_extents: count, extent_start: HYPERVISOR, ..good };
            nothing("count", reservation(command, &bad))?;
        }
        for domid in [DOMID_INVALID, 0x7000] {
            let bad = MemoryReservation { domid, ..good };
            nothing("domain", reservation(command, &bad))?;
        }
        let none = MemoryReservation { nr_extents: 0, ..good };
        equal("no extents", reservation(command, &none), Ok(0))?;
        equal("frames", owned(), before)?;
    }
    equal("the page is still there", map(page.address, page.entry(WRITE)), Ok(0))
}

/// A domain gets no more frames than its limit.
pub fn limit() -> Told {
    let me = MemoryDomain { domid: DOMID_SELF };
    let limit = call(MEMORY_OP, [u64::from(XENMEM_MAXIMUM_RESERVATION), reads(&me)]).unwrap_or(0);
    let room = limit.saturating_sub(owned());
    if room > 1024 {
        return crate::check::skip("the domain has no limit");
    }
    let mut frames = alloc::vec![0; 1025];
    let taken = hypercall::increase_reservation(&mut frames, 0, 0);
    equal("frames up to the limit", taken, Ok(room))?;
    equal("frames beyond it", hypercall::increase_reservation(&mut frames[..1], 0, 0), Ok(0))?;
    equal("given back", give(&frames[..usize::try_from(room).unwrap_or(0)]), Ok(room))
}

/// A frame for another, with the same number.
pub fn exchange() -> Told {
    let page = unmapped_page()?;
    let pfn = number(page);
    let (mut given, mut taken) = ([page.mfn], [pfn]);
    let before = owned();
    let mut argument = MemoryExchange { input: list(&mut given), output: list(&mut taken), nr_exchanged: 0 };
    equal("exchange", call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), writes(&mut argument)]), Ok(0))?;
    equal("number done", argument.nr_exchanged, 1)?;
    equal("frames", owned(), before)?;
    equal("its number", memory::pseudo_physical_frame(taken[0]), Some(pfn))?;
    let fresh = Page { mfn: taken[0], ..page };
    fresh.unprotect()?;
    fresh.write(3, 4);
    equal("its word", fresh.read(3), 4)?;
    equal("unmap", map(fresh.address, 0), Ok(0))?;
    if taken[0] != page.mfn {
        let answer = map(page.address, page.entry(READ));
        holds("map the old one", matches!(answer, Err(Errno::EBUSY | Errno::EPERM | Errno::EINVAL)))?;
    }
    trapped("behind it", probe::read(page.address).err(), 14, 0)
}

/// Exchanges that can't be: nothing is lost.
pub fn exchange_refusals() -> Told {
    let mapped = Page::new();
    mapped.write(0, 1);
    let before = owned();
    let exchange = |argument: &mut MemoryExchange| call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), writes(argument)]);
    let (mut given, mut taken) = ([mapped.mfn], [number(mapped)]);
    let good = MemoryExchange { input: list(&mut given), output: list(&mut taken), nr_exchanged: 0 };

    refused("a page in use", exchange(&mut { good }), Errno::EINVAL)?;
    let sizes = MemoryReservation { extent_order: 1, ..good.output };
    refused("sizes that differ", exchange(&mut MemoryExchange { output: sizes, ..good }), Errno::EINVAL)?;
    let none = MemoryReservation { nr_extents: 0, ..good.output };
    refused("numbers that differ", exchange(&mut MemoryExchange { output: none, ..good }), Errno::EINVAL)?;
    refused("more done than asked for", exchange(&mut MemoryExchange { nr_exchanged: 2, ..good }), Errno::EINVAL)?;
    let mut wild = [0xff_ffff_ffff_u64];
    refused("no such frame", exchange(&mut MemoryExchange { input: list(&mut wild), ..good }), Errno::EINVAL)?;
    for pointer in BAD_POINTERS {
        refused("argument", call(MEMORY_OP, [u64::from(XENMEM_EXCHANGE), pointer]), Errno::EFAULT)?;
    }
    for pointer in [HYPERVISOR, NON_CANONICAL] {
        let input = MemoryReservation { extent_start: pointer, ..good.input };
        refused("input list", exchange(&mut MemoryExchange { input, ..good }), Errno::EFAULT)?;
        let output = MemoryReservation { extent_start: pointer, ..good.output };
        let answer = exchange(&mut MemoryExchange { output, ..good });
        holds("output list", matches!(answer, Err(Errno::EFAULT | Errno::EINVAL)))?;
    }
    let other = MemoryReservation { domid: DOMID_INVALID, ..good.input };
    let answer = exchange(&mut MemoryExchange { input: other, ..good });
    holds("nobody's frames", matches!(answer, Err(Errno::EINVAL | Errno::ESRCH)))?;
    equal("frames", owned(), before)?;
    equal("the page is still there", mapped.read(0), 1)
}
