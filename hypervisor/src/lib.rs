//! Pavise: a Type-1 paravirtualizing hypervisor that speaks the Xen PV ABI.
//!
//! # The invariants, by name
//!
//! * **Frames**: a frame in use as a page table or descriptor page is never writable by a guest, and never used as two
//!   types at once ([`mm`]).
//! * **Copies**: guest *virtual* memory is reached only through [`guest::GuestCopy`]; each value is read once, then checked,
//!   then used. (Frames that the rules hold are reached by number, word by word: page tables through
//!   [`PageTableMem`](mm::operation::PageTableMem), event queues through [`EventMemory`](event::fifo::EventMemory), grant
//!   entries through [`GrantMemory`](grant::GrantMemory); the shared-info page is all atomics, [`domain::shared`].)
//! * **Errors are values**: a guest's mistake yields an error code or ends that guest. No guest action reaches a panic.
//! * **One owner**: a vCPU is owned by the CPU that runs it, by a run queue (ready or asleep; [`sched`]), or by its domain
//!   (parked). What other CPUs may read of it is in [`domain::link`].
//! * **Interrupts off**: hypervisor code runs with interrupts off, in bounded steps (`sync`, [`hypercall`]).
//!
//! # Modules
//!
//! Pure logic, also built and tested on the host: [`addr`], [`guest`], [`mm`], [`device`], [`domain`], [`bounce`],
//! [`emulate`], [`event`], [`grant`], [`hypercall`], [`sched`], [`time`], [`machine`]. Hardware and glue, bare metal only:
//! `arch`, `sync`, `system`. Pure modules never name those three. `docs/architecture.md` has the map.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod bounce;
pub mod device;
pub mod domain;
pub mod emulate;
pub mod event;
pub mod grant;
pub mod guest;
pub mod hypercall;
pub mod machine;
pub mod mm;
pub mod sched;
pub mod time;

#[cfg(target_os = "none")]
#[path = "arch/x86_64/mod.rs"]
mod arch;
#[cfg(target_os = "none")]
mod sync;
#[cfg(target_os = "none")]
mod system;

#[cfg(target_os = "none")]
pub use arch::{boot::BOOTLOADER_CONFIG, panic::die as panicked};

/// Goes on where the boot loader hands over.
#[cfg(target_os = "none")]
pub fn start(info: &'static mut bootloader_api::BootInfo) -> ! {
    extern "C" fn on_a_stack_with_top(info: &'static mut bootloader_api::BootInfo) -> ! {
        system::boot::start(arch::boot::take_over(info))
    }
    arch::boot::begin(info, on_a_stack_with_top)
}
