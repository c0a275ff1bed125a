//! Pavise: a Type-1 paravirtualizing hypervisor that speaks the Xen PV ABI.
//!
//! # The invariants, by name
//!
//! * **Frames**: a frame in use as a page table or descriptor table is never writable by a guest, and is in use as one
//!   kind of table only ([`mm`]).
//! * **Copies**: guest memory is reached through [`guest::GuestCopy`] alone; a value is read once, checked, then used.
//! * **Values**: a guest's mistake is a value (an error code, or its own end). No guest reaches a panic.
//! * **One place**: a running vCPU is owned by its CPU, one that waits or sleeps by a run queue ([`sched`]), one that may not
//!   run by its domain. What others may know of it is apart ([`domain::link`]).
//! * **Interrupts off**: hypervisor code runs with interrupts off, in bounded steps (`sync`, [`hypercall`]).
//!
//! # The rooms
//!
//! Pure rules, compiled for the host too and tested there: [`addr`], [`guest`], [`mm`], [`device`], [`domain`], [`bounce`],
//! [`emulate`], [`event`], [`grant`], [`hypercall`], [`sched`], [`time`], [`machine`]. The machine's edge and the glue, for
//! the bare machine only: `arch`, `sync`, `system`. Pure rooms never name those three. `docs/architecture.md` has the map.
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
pub mod arch;
#[cfg(target_os = "none")]
pub mod sync;
#[cfg(target_os = "none")]
pub mod system;
