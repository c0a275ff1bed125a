//! The direct map: every byte of RAM at a fixed distance, and operations on whole frames through it.

use core::arch::asm;

use super::layout::{DIRECT_MAP, DIRECT_MAP_END};
use crate::addr::{MachineAddr, Mfn, PAGE_SIZE};

/// A number as an index or a size, which on this machine have as many bits.
#[inline(always)]
pub(in crate::arch) const fn to_usize(number: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        number as usize
    }
}

/// Where a machine address appears in the direct map. Only RAM is mapped there: see [`crate::machine::MemoryMap`].
#[inline(always)]
pub const fn direct_map(address: MachineAddr) -> *mut u8 {
    debug_assert!(address.0 < DIRECT_MAP_END - DIRECT_MAP);
    (DIRECT_MAP + address.0) as *mut u8
}

/// Fills a frame with zeros.
///
/// # Safety
/// `mfn` must be RAM that nothing refers to: no reference into it may live, and no CPU may use it as a page table.
#[inline]
pub unsafe fn zero_page(mfn: Mfn) {
    // SAFETY: the caller says the frame is ours to overwrite; the direct map maps all RAM writable but the image.
    unsafe { fill(direct_map(mfn.base()).cast(), 0, PAGE_SIZE / 8) }
}

/// Copies bytes to memory that is shared with a guest, which no reference may name.
///
/// # Safety
/// `to` must be valid for writing `bytes.len()` bytes, none of them in `bytes` or in any Rust object.
#[inline]
pub unsafe fn copy_bytes(to: *mut u8, bytes: &[u8]) {
    // SAFETY: the caller answers for the memory; the direction flag is clear in hypervisor code.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") bytes.len() => _,
            inout("rdi") to => _,
            inout("rsi") bytes.as_ptr() => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies bytes from memory that is shared with a guest to other such memory. Where the two overlap, what is copied is
/// anything that was there.
///
/// By words first: a page is 512 steps instead of 4,096 where the CPU, or QEMU, takes one by one.
///
/// # Safety
/// Both must be valid for `len` bytes, and no Rust object may be in `to`'s.
#[inline]
pub unsafe fn copy_between(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller answers for the memory; the direction flag is clear in hypervisor code.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Writes `count` copies of `word`.
///
/// # Safety
/// `to` must be valid for writing `count` words and 8-byte aligned.
#[inline]
pub(super) unsafe fn fill(to: *mut u64, word: u64, count: usize) {
    // SAFETY: the caller answers for the memory; the direction flag is clear in hypervisor code.
    unsafe {
        asm!(
            "rep stosq",
            inout("rcx") count => _,
            inout("rdi") to => _,
            in("rax") word,
            options(nostack, preserves_flags),
        );
    }
}

/// The bytes of a frame.
///
/// # Safety
/// `mfn` must be RAM, and for as long as the result lives nothing else may read or write the frame: no other
/// reference, no guest mapping, no use as a page table.
#[inline]
pub unsafe fn frame_bytes(mfn: Mfn) -> &'static mut [u8; PAGE_SIZE] {
    // SAFETY: the direct map maps all of RAM for as long as the machine runs; any bytes are valid `u8`s; the caller
    // promises that there is no other access.
    unsafe { &mut *direct_map(mfn.base()).cast() }
}
