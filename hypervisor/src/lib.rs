//! Pavise: a Type-1 paravirtualizing hypervisor that speaks the Xen PV ABI.
//!
//! The rooms, and what may name what, are in `docs/architecture.md`.
#![no_std]
#![deny(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod domain;
pub mod emulate;
pub mod guest;
pub mod mm;
pub mod sched;
pub mod time;
