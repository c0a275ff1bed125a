//! Ports and their handlers.

use super::delivery::{mask, set_vcpu, unmask};
use super::two_level;
use crate::hypercall;
use crate::sync::Slot;
use pv_abi::errno::Errno;

/// Handles the event of a port.
pub type Handler = fn(port: u32);

/// The handlers. Ports beyond the last share its slot.
static HANDLERS: [Slot<Handler>; two_level::PORTS as usize] = [const { Slot::empty() }; two_level::PORTS as usize];

fn slot(port: u32) -> &'static Slot<Handler> {
    &HANDLERS[port.min(two_level::PORTS - 1) as usize]
}

/// Calls the handler of a port. An event without one is dropped.
pub(super) fn call(port: u32) {
    if let Some(handler) = slot(port).get() {
        handler(port);
    }
}

/// Gives a port of `vcpu` its handler, and unmasks it.
pub fn attach(port: u32, vcpu: u32, handler: Handler) {
    slot(port).set(Some(handler));
    set_vcpu(port, vcpu);
    unmask(port);
}

/// A port for a virtual interrupt of `vcpu`, unmasked.
///
/// # Errors
/// The hypervisor's.
pub fn bind_virq(virq: u32, vcpu: u32, handler: Handler) -> Result<u32, Errno> {
    let port = hypercall::bind_virq(virq, vcpu)?;
    attach(port, vcpu, handler);
    Ok(port)
}

/// A port for messages to `vcpu`, unmasked.
///
/// # Errors
/// The hypervisor's.
pub fn bind_ipi(vcpu: u32, handler: Handler) -> Result<u32, Errno> {
    let port = hypercall::bind_ipi(vcpu)?;
    attach(port, vcpu, handler);
    Ok(port)
}

/// A port connected to another domain's, unmasked, for the first vCPU.
///
/// # Errors
/// The hypervisor's.
pub fn bind_interdomain(domain: u16, remote_port: u32, handler: Handler) -> Result<u32, Errno> {
    let port = hypercall::bind_interdomain(domain, remote_port)?;
    attach(port, 0, handler);
    Ok(port)
}

/// A port for a physical interrupt, unmasked, for the first vCPU.
///
/// # Errors
/// The hypervisor's.
pub fn bind_pirq(pirq: u32, handler: Handler) -> Result<u32, Errno> {
    let port = hypercall::bind_pirq(pirq)?;
    attach(port, 0, handler);
    Ok(port)
}

/// Moves a port's events to another vCPU. What came before may still go to the old one.
///
/// # Errors
/// The hypervisor's.
pub fn move_to(port: u32, vcpu: u32) -> Result<(), Errno> {
    mask(port);
    let moved = hypercall::bind_vcpu(port, vcpu);
    if moved.is_ok() {
        set_vcpu(port, vcpu);
    }
    unmask(port);
    moved
}

/// Closes a port.
///
/// # Errors
/// The hypervisor's.
pub fn close(port: u32) -> Result<(), Errno> {
    mask(port);
    slot(port).set(None);
    hypercall::close_port(port)
}
