//! The guest's part of the GDT. Header: `xen.h`.

use super::{Answer, call};
use pv_abi::hypercall as number;

/// Installs the machine frames of a GDT with `entries` descriptors, 512 in each; without entries, none (`set_gdt`).
///
/// # Errors
/// `EINVAL` for too many entries, and for a frame that is mapped writable or holds a descriptor no guest may have.
///
/// # Safety
/// No segment register in use points to a descriptor that changes its meaning. There is a frame for every 512 entries.
pub unsafe fn set_gdt(frames: &[u64], entries: u32) -> Answer {
    // SAFETY: the call only reads the list.
    unsafe { call(number::SET_GDT, [frames.as_ptr() as u64, u64::from(entries), 0, 0, 0]) }
}

/// Writes one descriptor at a machine address (`update_descriptor`).
///
/// # Errors
/// `EINVAL` for an address that isn't the domain's, and for a descriptor no guest may have.
///
/// # Safety
/// The 8 bytes are the caller's to write, and as for [`set_gdt`].
pub unsafe fn update_descriptor(machine_address: u64, descriptor: u64) -> Answer {
    // SAFETY: the 8 bytes are the caller's to write, and no segment in use changes its meaning, as the caller promises.
    unsafe { call(number::UPDATE_DESCRIPTOR, [machine_address, descriptor, 0, 0, 0]) }
}
