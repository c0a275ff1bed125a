//! Addresses that the host looks for when it watches which instructions are executed, by these symbols.

use core::arch::naked_asm;

/// A row's operations begin.
#[unsafe(naked)]
#[unsafe(export_name = "bench_begin")]
pub extern "C" fn begin() {
    naked_asm!("ret")
}

/// A row's operations are done.
#[unsafe(naked)]
#[unsafe(export_name = "bench_end")]
pub extern "C" fn end() {
    naked_asm!("ret")
}
