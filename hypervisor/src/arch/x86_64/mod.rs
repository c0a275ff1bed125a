//! The hardware layer: almost all `unsafe` code (the rest is in `sync`), and no policy.
//!
//! `system` calls in here; only [`entry`] and [`trap`] call out to it. Names are those of the manuals (Intel SDM, AMD APM).
#![expect(unsafe_code)]
// UNSAFETY: registers, page tables, interrupts and device ports can't be reached otherwise. Each module states what
// makes its uses sound; pure rules stay outside.

pub mod acpi;
pub mod apic;
pub mod barriers;
pub mod boot;
pub mod console;
pub mod cpu_features;
pub mod descriptors;
pub mod entry;
mod exit;
mod fpu;
pub mod guest_frames;
pub mod irq;
pub mod isolation;
pub mod mm;
pub mod own;
pub mod panic;
pub mod pci;
pub mod percpu;
pub mod ports;
pub mod smp;
mod start;
pub mod syscall;
pub mod time;
pub mod trap;
pub mod uaccess;
pub mod vcpu;
pub mod vectors;

pub use exit::{DebugExit, debug_exit, debug_exit_port, set_debug_exit};
pub use start::{enter_boot_block, prepare_cpu, start_other_cpus};

/// Waits for an interrupt with interrupts on, and turns them off again.
///
/// Interrupts are off on entry. An interrupt that arrives between the caller's last check and the `hlt` still ends it,
/// because `sti` takes effect after the instruction that follows it.
pub fn idle() {
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
}

/// The machine's CPUID: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let result = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}
