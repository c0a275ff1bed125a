//! PCI: functions on the buses, their capabilities and interrupts.
//!
//! * [`scan`]: which functions there are; pure;
//! * `ports`: configuration space, by I/O ports;
//! * `interrupt`: a function's interrupt as an event port.

pub mod scan;

#[cfg(target_os = "none")]
pub mod interrupt;
#[cfg(target_os = "none")]
mod ports;

#[cfg(target_os = "none")]
pub use ports::Ports;
