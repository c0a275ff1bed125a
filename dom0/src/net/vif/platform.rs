//! What a device needs of grant tables and event channels, as a seam: the live ones, or a test's.

use super::queue::GrantCopy;
use core::fmt;
use guest_kernel::ring::SharedMemory;
use log::Level;

/// Another domain's granted pages and event channels.
pub trait Platform {
    /// A page of a ring. The domain can take it back when this is dropped.
    type Ring: SharedMemory;
    /// An event channel to the domain, whose events wake the device. Closed when this is dropped.
    type Port;

    /// Maps the page of a ring. `None` if it is refused.
    fn ring(&mut self, domain: u16, gref: u32) -> Option<Self::Ring>;

    /// Connects to a port that the domain allocated for us. `None` if that is refused.
    fn port(&mut self, domain: u16, remote: u32) -> Option<Self::Port>;

    /// Sends an event.
    fn notify(&mut self, port: &Self::Port);

    /// Copies from and to pages of the domain.
    fn pages(&mut self, domain: u16) -> impl GrantCopy;

    /// Tells whoever looks after the machine, who may not care for all levels.
    fn report(&mut self, level: Level, text: fmt::Arguments<'_>);
}
