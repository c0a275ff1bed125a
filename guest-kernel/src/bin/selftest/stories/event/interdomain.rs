//! Two ports connected, here both of the same domain.

use super::{FAR, STRANGER, page, refusal, unbound};
use crate::check::{Told, equal, holds};
use guest_kernel::event::two_level::{clear, is_set};
use guest_kernel::hypercall;
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::*;

/// Connected ports name each other, and an event sent from one is pending on the other.
pub fn connect() -> Told {
    let page = page()?;
    let far = unbound()?;
    equal("send before there is another end", hypercall::send(far), Ok(()))?;
    let near = hypercall::bind_interdomain(DOMID_SELF, far).map_err(refusal)?;
    holds("the new end is pending at once", is_set(&page.pending, near))?;
    holds("the old one isn't", !is_set(&page.pending, far))?;
    clear(&page.pending, near);

    for (port, other) in [(near, far), (far, near)] {
        let status = hypercall::port_status(port).map_err(refusal)?;
        equal("status", (status.status, status.remote_port), (EVTCHNSTAT_INTERDOMAIN, other))?;
        equal("send", hypercall::send(port), Ok(()))?;
        holds("pending on the other end", clear(&page.pending, other))?;
        holds("not on this", !is_set(&page.pending, port))?;
    }
    Ok(())
}

/// When an end is closed the other waits for a new one, from the same domain.
pub fn close() -> Told {
    let far = unbound()?;
    let near = hypercall::bind_interdomain(DOMID_SELF, far).map_err(refusal)?;
    equal("close", hypercall::close_port(near), Ok(()))?;
    let status = hypercall::port_status(far).map_err(refusal)?;
    equal("the other end", status.status, EVTCHNSTAT_UNBOUND)?;
    equal("send to nobody", hypercall::send(far), Ok(()))?;
    equal("connect again", hypercall::bind_interdomain(DOMID_SELF, far), Ok(near))?;
    equal("close the first end", hypercall::close_port(far), Ok(()))?;
    equal("the second end", hypercall::port_status(near).map(|status| status.status), Ok(EVTCHNSTAT_UNBOUND))?;
    equal("close both", hypercall::close_port(near), Ok(()))
}

/// Ports that can't be connected to.
pub fn refusals() -> Told {
    let mine = unbound()?;
    let others = hypercall::alloc_unbound(DOMID_SELF, STRANGER).map_err(refusal)?;
    let ipi = hypercall::bind_ipi(0).map_err(refusal)?;
    let connected = unbound()?;
    equal("connect", hypercall::bind_interdomain(DOMID_SELF, connected).map(drop), Ok(()))?;
    for port in [0, others, ipi, connected, FAR, u32::MAX] {
        equal("no port for us", hypercall::bind_interdomain(DOMID_SELF, port), Err(Errno::EINVAL))?;
    }
    equal("a domain that isn't there", hypercall::bind_interdomain(STRANGER, mine), Err(Errno::ESRCH))?;
    // A refusal takes no port.
    let next = unbound()?;
    equal("close", hypercall::close_port(next), Ok(()))?;
    equal("refused", hypercall::bind_interdomain(DOMID_SELF, others), Err(Errno::EINVAL))?;
    equal("next port", unbound()?, next)
}
