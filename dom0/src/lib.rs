//! The control and driver domain: creates the other domains, keeps XenStore, drives the devices and shares them.
//!
//! It is a PV guest like any other, built on the library of `guest-kernel`, and privileged. Nothing here is part of the
//! hypervisor: a mistake in this crate ends this domain, not the machine.
//!
//! | module | what |
//! |---|---|
//! | `service` | the parts that take turns, and the loop that gives them |
//! | `contain` | panics of one part that end this part alone |
//! | `console` | the domains' consoles, on one screen and keyboard |
//! | `domains` | the domains: created, watched, ended |
//! | `store` | XenStore |
//! | `toolstack` | what the devices of other domains are in XenStore |
//! | `nodes` | what back ends read and write of a device in XenStore |
//! | `block` | disks for other domains, and their drivers |
//! | `net` | the network: bridge, back end, uplink |
//! | `pci` | functions on the buses, and their interrupts |
//! | `virtio` | virtio devices: transport, queues, interrupt |
//! | `prompt` | what is typed for this domain |
//!
//! Modules declared above the `target_os = "none"` line are pure and tested on the host.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
pub mod console;
pub mod contain;
pub mod domains;
pub mod net;
pub mod nodes;
pub mod pci;
pub mod prompt;
pub mod service;
pub mod store;
pub mod toolstack;

#[cfg(target_os = "none")]
pub mod virtio;
