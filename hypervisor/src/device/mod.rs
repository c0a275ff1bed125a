//! The hardware, as far as the hypervisor lets a domain drive it: I/O ports and physical interrupts. (Device frames are
//! left to [`mm::devices`](crate::mm::devices).)
//!
//! One domain at most has the hardware, the control domain. It is trusted with it: a device writes to any memory that its
//! driver names, since no IOMMU is used. What is refused here keeps that domain's mistakes, and programs of its user mode,
//! from the few things that are the hypervisor's own: its console, timers and interrupt controllers.
//!
//! * [`ports`]: which I/O ports it reaches; PCI configuration through ports;
//! * [`pirq`]: the numbers of its interrupts, and what becomes of one that arrives;
//! * [`interrupts`]: the same with its lock, its event channels, and the machine behind a seam.
#![forbid(unsafe_code)]

pub mod interrupts;
pub mod pirq;
pub mod ports;
#[cfg(test)]
pub(crate) mod tests;

use crate::mm::devices::DeviceFrames;
use interrupts::Interrupts;
use ports::Ports;

/// What a domain has that has the hardware.
pub struct Hardware {
    /// Its ports.
    pub ports: Ports,
    /// Its device frames.
    pub frames: DeviceFrames,
    /// Its interrupts.
    pub interrupts: &'static Interrupts,
}
