//! Virtio devices on PCI, for drivers: a device of a type, its transport, queues and interrupt.
//!
//! The crate `virtio-drivers` has the transport and the queues. Here is what it needs of the domain ([`Memory`]), and what it
//! leaves out: interrupts by message.

mod device;
mod memory;

pub use device::{Device, Error, devices};
pub use memory::Memory;
