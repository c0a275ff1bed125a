//! Event ports that belong to a service.

use super::marks::Waker;
use super::run::MARKS;
use guest_kernel::{event, hypercall};
use pv_abi::errno::Errno;

/// A port whose events wake a service. It is closed when this is dropped.
#[derive(Debug)]
pub struct Port(u32);

impl Port {
    /// A port connected to another domain's, which that domain allocated for us.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn connect(domain: u16, remote_port: u32, waker: &Waker) -> Result<Port, Errno> {
        Ok(Port::attach(hypercall::bind_interdomain(domain, remote_port)?, waker))
    }

    /// A port for a virtual interrupt that goes to the first vCPU.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn virtual_interrupt(virq: u32, waker: &Waker) -> Result<Port, Errno> {
        Ok(Port::attach(hypercall::bind_virq(virq, 0)?, waker))
    }

    /// Makes a port that the domain has already wake a service.
    pub fn attach(port: u32, waker: &Waker) -> Port {
        MARKS.set_owner(port, Some(waker));
        event::attach(port, 0, |port| MARKS.ring(port));
        // What came before the port had its owner.
        MARKS.ring(port);
        Port(port)
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.0
    }

    /// Whether an event came since the last time it was asked.
    pub fn rang(&self) -> bool {
        MARKS.take_rung(self.0)
    }

    /// Sends an event to the other side. One that has gone doesn't need it.
    pub fn notify(&self) {
        let _ = hypercall::send(self.0);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        MARKS.set_owner(self.0, None);
        // The other side's end may have closed it.
        let _ = event::close(self.0);
    }
}
