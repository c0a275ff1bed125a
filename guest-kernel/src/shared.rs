//! The page shared with the hypervisor, where `update_va_mapping` can map it, and the vCPUs' records.
//!
//! A hypervisor that has no such call leaves the kernel without it; then [`record`] is `None` and its users do without:
//! time comes from CPUID, page-fault addresses aren't known, and there are no events.

use crate::hypercall::{self, Answer, Flush, Vcpus};
use crate::paging::{PAGE_BYTES, PAGE_SIZE, PRESENT, USER, WRITABLE};
use crate::record::{Page, Record};
use crate::{memory, vcpu};
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use pv_abi::errno::Errno;
use pv_abi::start_info::StartInfo;

/// An address range of the image, whose own frame gives way to the shared one.
#[repr(C, align(4096))]
struct Window(UnsafeCell<[u8; PAGE_BYTES]>);

// SAFETY: the bytes are only reached as the atomics of `Page`.
unsafe impl Sync for Window {}

static WINDOW: Window = Window(UnsafeCell::new([0; PAGE_BYTES]));
static PAGE: AtomicPtr<Page> = AtomicPtr::new(null_mut());

/// Where the vCPUs' records are that were moved out of the page.
static MOVED: [AtomicPtr<Record>; vcpu::LIMIT] = [const { AtomicPtr::new(null_mut()) }; vcpu::LIMIT];

/// Tries to map the page. Called once, from the entry code.
pub(crate) fn init(info: &StartInfo) {
    let window = WINDOW.0.get();
    let entry = (info.shared_info & !(PAGE_SIZE - 1)) | PRESENT | WRITABLE | USER;
    // SAFETY: nothing lives in the window, and it is used only as the shared page from here on.
    if unsafe { hypercall::update_va_mapping(window as u64, entry, Flush::Address(Vcpus::Here)) }.is_ok() {
        PAGE.store(window.cast(), Ordering::Release);
    }
}

/// The page, if it is mapped.
pub fn page() -> Option<&'static Page> {
    // SAFETY: the pointer is null, or that of a window that is mapped for good, is larger than the structure, and holds
    // nothing but atomics.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// This vCPU's record.
pub fn record() -> Option<&'static Record> {
    record_of(vcpu::current())
}

/// A vCPU's record.
pub fn record_of(id: u32) -> Option<&'static Record> {
    let id = usize::try_from(id).ok()?;
    // SAFETY: the pointer is null or that of a record that is never freed.
    let moved = unsafe { MOVED.get(id)?.load(Ordering::Acquire).as_ref() };
    moved.or_else(|| page()?.records.get(id))
}

/// Moves a vCPU's record out of the page to `record`, which has a cache line of its own.
///
/// # Errors
/// When the hypervisor refuses.
///
/// # Panics
/// When `record` isn't the kernel's memory, or there is no such vCPU.
pub fn move_record(id: u32, record: &'static Record) -> Answer {
    let address = core::ptr::from_ref(record) as u64;
    let mfn = memory::machine_frame_behind(address).ok_or(Errno::EINVAL)?;
    // SAFETY: a record is made of atomics, and this one is never freed.
    let moved = unsafe { hypercall::register_vcpu_info(id, mfn, (address % PAGE_SIZE) as u32) }?;
    MOVED[id as usize].store(core::ptr::from_ref(record).cast_mut(), Ordering::Release);
    Ok(moved)
}

/// The address of the last page fault delivered to this vCPU, if the page is mapped.
pub fn fault_address() -> Option<u64> {
    record().map(|record| record.fault_address.load(Ordering::Relaxed))
}
