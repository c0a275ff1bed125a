//! The event callback, and the upcall mask of this vCPU.

use super::delivery::{mask_all, take};
use super::handlers::call;
use crate::hypercall::{deliver_upcalls, register_callback};
use crate::shared::record;
use crate::trap::event_entry;
use core::sync::atomic::Ordering::SeqCst;
use pv_abi::errno::Errno;
use pv_abi::trap::{CALLBACKTYPE_EVENT, CallbackFlags};

/// Registers the callback for this vCPU, and masks all ports.
///
/// # Errors
/// When the hypervisor has no such call, or the shared page isn't mapped (`ENOSYS`).
pub fn init() -> Result<(), Errno> {
    record().ok_or(Errno::ENOSYS)?;
    mask_all();
    // SAFETY: the address is that of the callback.
    unsafe { register_callback(CALLBACKTYPE_EVENT, CallbackFlags::empty(), callback()) }.map(drop)
}

/// The address to register as event callback.
pub fn callback() -> u64 {
    event_entry()
}

/// Lets upcalls come to this vCPU; one that is due comes before this returns.
pub fn enable() {
    let Some(record) = record() else { return };
    record.upcall_mask.store(0, SeqCst);
    // The hypervisor doesn't see the store. What it raised before, it delivers on its next way back here.
    if record.upcall_pending.load(SeqCst) != 0 {
        deliver_upcalls();
    }
}

/// Keeps upcalls from this vCPU; says whether they could come.
pub fn disable() -> bool {
    record().is_some_and(|record| record.upcall_mask.swap(1, SeqCst) == 0)
}

/// An upcall: every event that is due goes to its handler. Upcalls are masked meanwhile.
pub(crate) fn upcall() {
    let Some(record) = record() else { return };
    while record.upcall_pending.swap(0, SeqCst) != 0 {
        take(record, call);
    }
}
