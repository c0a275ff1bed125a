//! Addresses that the host looks for when it watches which instructions are executed, by these symbols. Other domains may
//! have other code there: RDI tells.

use core::arch::naked_asm;

/// What is in RDI then: "`PvsBench`".
const MARK: u64 = u64::from_be_bytes(*b"PvsBench");

/// A row's operations begin.
pub fn begin() {
    mark_begin(MARK);
}

/// A row's operations are done.
pub fn end() {
    mark_end(MARK);
}

#[unsafe(naked)]
#[unsafe(export_name = "bench_begin")]
extern "C" fn mark_begin(_mark: u64) {
    naked_asm!("ret")
}

#[unsafe(naked)]
#[unsafe(export_name = "bench_end")]
extern "C" fn mark_end(_mark: u64) {
    naked_asm!("ret")
}
