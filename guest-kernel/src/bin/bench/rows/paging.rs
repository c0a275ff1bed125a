//! Changes of page-table entries, and what is flushed.

use crate::meter::{Effort, Measured};
use crate::scratch::{Page, Pages};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel::hypercall::{self, mmuext, raw};
use guest_kernel::probe;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::mmu::{MmuUpdate, UVMF_INVLPG, UVMF_LOCAL};
use pv_abi::trap::{VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES};

/// Updates in a batch.
const BATCH: usize = 64;

/// Pages whose entries are changed.
static PAGES: Pages<BATCH> = Pages::new();

/// `update_va_mapping` of the entry that is there, with the address flushed on this vCPU.
pub fn update_va_mapping_same(effort: Effort) -> Measured {
    let page = PAGES.page(0);
    effort.count(1, || update_va_mapping(page, page.writable()))
}

/// `update_va_mapping` to a page and to nothing in turn, with the address flushed on this vCPU.
pub fn update_va_mapping_map_unmap(effort: Effort) -> Measured {
    let page = PAGES.page(0);
    effort.count(2, || update_va_mapping(page, 0) | update_va_mapping(page, page.writable()))
}

/// `mmu_update` with one update, of the entry that is there.
pub fn mmu_update_one(effort: Effort) -> Measured {
    let updates = same(1);
    effort.count(1, || mmu_update(&updates))
}

/// An update of `mmu_update` among 64, each of the entry that is there.
pub fn mmu_update_batch_same(effort: Effort) -> Measured {
    let updates = same(BATCH);
    effort.count(BATCH as u64, || mmu_update(&updates))
}

/// An update of `mmu_update` among 64, to pages and to nothing in turn.
pub fn mmu_update_batch_map_unmap(effort: Effort) -> Measured {
    let map = same(BATCH);
    let unmap: Vec<_> = map.iter().map(|update| MmuUpdate { val: 0, ..*update }).collect();
    effort.count(2 * BATCH as u64, || mmu_update(&unmap) | mmu_update(&map))
}

/// A store to a page table, `xchg` as Linux clears an entry by, which the hypervisor carries out after the fault: the
/// entry and nothing in turn.
pub fn page_table_store(effort: Effort) -> Measured {
    // Xen carries the first domain's stores out unasked.
    hypercall::vm_assist(VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES)?;
    let page = PAGES.page(0);
    let slot = page.slot_address();
    let entry = probe::read(slot).map_err(|_| Errno::EFAULT)?;
    // SAFETY: the entry stays what it is.
    unsafe { probe::write(slot, entry) }.map_err(|_| Errno::EFAULT)?;
    // SAFETY: the builder maps its tables for good, and entries change by atomic accesses only.
    let slot = unsafe { AtomicU64::from_ptr(slot as *mut u64) };
    let mut other = 0;
    let mut exchange = || other = slot.swap(other, Ordering::Relaxed);
    effort.count(2, || {
        exchange();
        exchange();
        0
    })
}

/// A flush of this vCPU's TLB.
pub fn tlb_flush_local(effort: Effort) -> Measured {
    let operation = mmuext::flush_here();
    let address = (&raw const operation) as u64;
    // SAFETY: the call reads the operation, and a flush changes no mapping.
    effort.count(1, || unsafe { raw(u64::from(number::MMUEXT_OP), [address, 1, 0, u64::from(DOMID_SELF), 0]) })
}

/// Updates that write the entries of the first `count` pages as they are.
fn same(count: usize) -> Vec<MmuUpdate> {
    (0..count).map(|index| PAGES.page(index)).map(|page| MmuUpdate { ptr: page.slot(), val: page.writable() }).collect()
}

fn mmu_update(updates: &[MmuUpdate]) -> i64 {
    // SAFETY: the updates are of the entries of `PAGES`, which hold nothing.
    unsafe {
        raw(u64::from(number::MMU_UPDATE), [updates.as_ptr() as u64, updates.len() as u64, 0, u64::from(DOMID_SELF), 0])
    }
}

fn update_va_mapping(page: Page, entry: u64) -> i64 {
    // SAFETY: the page is one of `PAGES`, which hold nothing.
    unsafe { raw(u64::from(number::UPDATE_VA_MAPPING), [page.address, entry, UVMF_INVLPG | UVMF_LOCAL, 0, 0]) }
}
