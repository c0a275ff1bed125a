//! The page shared with the hypervisor, where `update_va_mapping` can map it.
//!
//! A hypervisor that has no such call yet leaves the kernel without it; then [`record`] is `None` and its users do
//! without: time comes from CPUID, page-fault addresses aren't known.

use crate::hypercall::{self, Flush, Vcpus};
use crate::paging::{PAGE_SIZE, PRESENT, USER, WRITABLE};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use pv_abi::shared_info::{SharedInfo, VcpuInfo};
use pv_abi::start_info::StartInfo;

/// An address range of the image, whose own frame gives way to the shared one.
#[repr(C, align(4096))]
struct Window(UnsafeCell<[u8; 4096]>);

// SAFETY: the bytes are only reached by volatile reads through `record`'s pointer.
unsafe impl Sync for Window {}

static WINDOW: Window = Window(UnsafeCell::new([0; 4096]));
static MAPPED: AtomicBool = AtomicBool::new(false);

/// Tries to map the page. Called once, from the entry code.
pub(crate) fn init(info: &StartInfo) {
    let window = WINDOW.0.get() as u64;
    let entry = (info.shared_info & !(PAGE_SIZE - 1)) | PRESENT | WRITABLE | USER;
    // SAFETY: nothing lives in the window, and it is used only as the shared page from here on.
    let mapped = unsafe { hypercall::update_va_mapping(window, entry, Flush::Address(Vcpus::Here)) }.is_ok();
    MAPPED.store(mapped, Ordering::Relaxed);
}

/// vCPU 0's record in the shared page, if it is mapped. The hypervisor changes it at any time: read it volatilely.
pub fn record() -> Option<*const VcpuInfo> {
    let page: *const SharedInfo = WINDOW.0.get().cast();
    // SAFETY: the window is a whole page, so the first record is in bounds.
    MAPPED.load(Ordering::Relaxed).then(|| unsafe { (&raw const (*page).vcpu_info).cast() })
}

/// The address of the last page fault delivered, if the page is mapped.
pub fn fault_address() -> Option<u64> {
    // SAFETY: the record is mapped, and the field aligned.
    record().map(|record| unsafe { (&raw const (*record).arch.cr2).read_volatile() })
}
