//! I/O ports, for the domain that has the hardware and I/O privilege ([`set_iopl`](crate::hypercall::set_iopl)). Without the
//! privilege an access is a general-protection fault; a port that is not the domain's reads as all ones.

use core::arch::asm;

/// Reads 32 bits.
///
/// # Safety
/// What the read does to the device is wanted.
pub unsafe fn read_u32(port: u16) -> u32 {
    let value;
    // SAFETY: the hypervisor does it, or raises a fault; the rest is the caller's promise.
    unsafe { asm!("in eax, dx", out("eax") value, in("dx") port, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes 32 bits.
///
/// # Safety
/// What the write does to the device is wanted; one that writes to memory by itself only gets memory that is the caller's.
pub unsafe fn write_u32(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("eax") value, in("dx") port, options(nostack, preserves_flags)) };
}
