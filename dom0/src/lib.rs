//! The control and driver domain: creates the other domains, keeps XenStore, drives the devices and shares them.
//!
//! It is a PV guest like any other, built on the library of `guest-kernel`, and privileged. Nothing here is part of the
//! hypervisor: a mistake in this crate ends this domain, not the machine.
//!
//! | room | what |
//! |---|---|
//! | `net` | the network: bridge, back end, uplink |
//! | `service` | the parts that take turns, and the loop that gives them |
//!
//! Rooms named above the `target_os = "none"` line are pure and tested on the host.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
pub mod net;
pub mod service;
pub mod store;
