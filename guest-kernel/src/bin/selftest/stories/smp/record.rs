//! vCPUs' records outside the shared page.

use super::{start_all, vcpus};
use crate::check::{Told, equal, holds, refused, skip};
use crate::stories::event::refusal;
use crate::stories::mmu::ground::Page;
use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::hypercall::Answer;
use guest_kernel::record::Record;
use guest_kernel::{event, hypercall, memory, probe, shared, smp, vcpu};
use pv_abi::errno::Errno;

/// A record in a page of its own, `offset` bytes from its start.
fn place(page: Page, offset: u64) -> &'static Record {
    // SAFETY: a page of a story lives for good, and the record fits; it is made of atomics.
    unsafe { &*((page.address + offset) as *const Record) }
}

/// What is in the record moves with it, and everything counts as pending; the old place is not used any more.
pub fn moves() -> Told {
    event::init().map_err(refusal)?;
    let (page, old) = (Page::new(), shared::record_of(0).ok_or_else(|| refusal(Errno::ENOSYS))?);
    let port = event::bind_ipi(0, |_| {}).map_err(refusal)?;
    let record = place(page, 4096 - 64);
    equal("upcalls masked", old.upcall_mask.load(SeqCst), 1)?;
    equal("move", shared::move_record(0, record), Ok(0))?;
    equal("mask", record.upcall_mask.load(SeqCst), 1)?;
    equal("an upcall is due", record.upcall_pending.swap(0, SeqCst), 1)?;
    equal("for every word", record.selector.swap(0, SeqCst), u64::MAX)?;
    let clock = record.clock();
    holds("time", clock.scale.multiplier != 0 && clock.system_time != 0)?;

    old.upcall_pending.store(0, SeqCst);
    equal("send", hypercall::send(port), Ok(()))?;
    equal("in the new place", record.upcall_pending.load(SeqCst), 1)?;
    equal("not in the old", old.upcall_pending.load(SeqCst), 0)?;
    holds("a page fault", probe::read(0x12_3000).is_err())?;
    equal("its address", record.fault_address.load(SeqCst), 0x12_3000)?;
    // Xen says EINVAL, and EBUSY from 4.19 on.
    let again = shared::move_record(0, place(Page::new(), 0));
    holds("once", matches!(again, Err(Errno::EINVAL | Errno::EBUSY)))
}

/// Xen says ENXIO; to say what is wrong with most arguments is no worse.
fn is_misplaced(answer: Answer) -> bool {
    matches!(answer, Err(Errno::ENXIO | Errno::EINVAL))
}

/// Places where no record can be.
pub fn refusals() -> Told {
    let page = Page::new();
    // SAFETY: the pages are the story's, for good.
    let register = |id, mfn, offset| unsafe { hypercall::register_vcpu_info(id, mfn, offset) };
    for offset in [4096 - 63, 4096 - 8, 4096, u32::MAX, u32::MAX - 63, 1 << 31] {
        holds("across the page's end", is_misplaced(register(0, page.mfn, offset)))?;
    }
    for offset in [1, 2, 4] {
        holds("askew", is_misplaced(register(0, page.mfn, offset)))?;
    }
    for mfn in [u64::MAX, 1 << 40, 1 << 52] {
        refused("no frame", register(0, mfn, 0), Errno::EINVAL)?;
    }
    refused("nobody's", register(vcpu::count(), page.mfn, 0), Errno::ENOENT)?;
    let table = memory::machine_frame_at(guest_kernel::start::start_info().pt_base).unwrap_or(0);
    refused("in a page table", register(0, table, 0), Errno::EINVAL)?;
    // None of them counts as the one time.
    equal("a good place", register(0, page.mfn, 64), Ok(0))
}

/// vCPUs that were never in the shared page work like others.
pub fn from_the_start() -> Told {
    if vcpus() < 2 {
        return skip("one vCPU");
    }
    let page = Page::new();
    event::init().map_err(refusal)?;
    for id in 0..vcpus() {
        equal("move", shared::move_record(id, place(page, u64::from(id) * 64)), Ok(0))?;
    }
    let count = start_all()?;
    event::enable();
    for _ in 0..100 {
        equal("all work", smp::everywhere(count, |id| id + 1).into_iter().sum(), count * (count + 1) / 2)?;
    }
    event::disable();
    Ok(())
}
