//! Ports from allocation to their end.

use super::{FAR, NOBODY, STRANGER, refusal, unbound};
use crate::check::{Told, equal, holds, skip};
use guest_kernel::{hypercall, vcpu};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::*;

fn status_of(port: u32) -> Result<u32, Errno> {
    hypercall::port_status(port).map(|status| status.status)
}

/// An unbound port says whom it waits for; the lowest free number is the next.
pub fn alloc_unbound() -> Told {
    let first = unbound()?;
    holds("port 0", first != 0)?;
    let second = hypercall::alloc_unbound(DOMID_SELF, STRANGER).map_err(refusal)?;
    holds("in order", second > first)?;
    let status = hypercall::port_status(second).map_err(refusal)?;
    equal("status", (status.status, status.vcpu, status.detail), (EVTCHNSTAT_UNBOUND, 0, STRANGER.into()))?;

    equal("close", hypercall::close_port(first), Ok(()))?;
    equal("status when closed", status_of(first), Ok(EVTCHNSTAT_CLOSED))?;
    equal("lowest free port", unbound()?, first)?;
    equal("for a domain that isn't there", hypercall::alloc_unbound(STRANGER, DOMID_SELF), Err(Errno::ESRCH))
}

/// A port for an event of the domain's own vCPUs.
pub fn ipi() -> Told {
    let port = hypercall::bind_ipi(0).map_err(refusal)?;
    let status = hypercall::port_status(port).map_err(refusal)?;
    equal("status", (status.status, status.vcpu), (EVTCHNSTAT_IPI, 0))?;
    equal("send", hypercall::send(port), Ok(()))?;
    equal("move", hypercall::bind_vcpu(port, 0), Err(Errno::EINVAL))?;
    let other = hypercall::bind_ipi(0).map_err(refusal)?;
    holds("another each time", other != port)?;
    equal("no such vCPU", hypercall::bind_ipi(NOBODY), Err(Errno::ENOENT))?;
    equal("no such vCPU", hypercall::bind_ipi(u32::MAX), Err(Errno::ENOENT))?;
    equal("close", hypercall::close_port(port), Ok(()))?;
    equal("send when closed", hypercall::send(port), Err(Errno::EINVAL))
}

/// Port 0, free ports and numbers beyond the last.
pub fn bad_ports() -> Told {
    let free = unbound()?;
    equal("close", hypercall::close_port(free), Ok(()))?;
    for port in [0, free, FAR, u32::MAX] {
        equal("close", hypercall::close_port(port), Err(Errno::EINVAL))?;
        equal("send", hypercall::send(port), Err(Errno::EINVAL))?;
        equal("bind_vcpu", hypercall::bind_vcpu(port, 0), Err(Errno::EINVAL))?;
    }
    for port in [FAR, u32::MAX] {
        equal("status", status_of(port), Err(Errno::EINVAL))?;
        equal("unmask", hypercall::unmask_port(port), Err(Errno::EINVAL))?;
        equal("set_priority", hypercall::set_priority(port, 0), Err(Errno::EINVAL))?;
    }
    equal("status of port 0", status_of(0), Ok(EVTCHNSTAT_CLOSED))
}

/// The vCPU that gets a port's events.
pub fn bind_vcpu() -> Told {
    if vcpu::count() < 2 {
        return skip("one vCPU");
    }
    let port = unbound()?;
    equal("unbound", hypercall::bind_vcpu(port, 1), Ok(()))?;
    equal("status", hypercall::port_status(port).map(|status| status.vcpu), Ok(1))?;
    equal("no such vCPU", hypercall::bind_vcpu(port, NOBODY), Err(Errno::ENOENT))?;
    let end = hypercall::bind_interdomain(DOMID_SELF, port).map_err(refusal)?;
    equal("connected", hypercall::bind_vcpu(end, 1), Ok(()))?;
    equal("back", hypercall::bind_vcpu(end, 0), Ok(()))?;
    equal("status", hypercall::port_status(end).map(|status| status.vcpu), Ok(0))?;
    let timer = hypercall::bind_virq(VIRQ_TIMER, 1).map_err(refusal)?;
    equal("a virtual interrupt that each vCPU has", hypercall::bind_vcpu(timer, 0), Err(Errno::EINVAL))?;
    let global = hypercall::bind_virq(VIRQ_DOM_EXC, 0).map_err(refusal)?;
    equal("one that the domain has", hypercall::bind_vcpu(global, 1), Ok(()))
}

/// A reset closes everything; afterwards all is as at the start.
pub fn reset() -> Told {
    let first = unbound()?;
    let end = hypercall::bind_interdomain(DOMID_SELF, first).map_err(refusal)?;
    let ipi = hypercall::bind_ipi(0).map_err(refusal)?;
    let timer = hypercall::bind_virq(VIRQ_TIMER, 0).map_err(refusal)?;
    equal("reset", hypercall::reset_ports(DOMID_SELF), Ok(()))?;
    for port in [first, end, ipi, timer] {
        equal("status", status_of(port), Ok(EVTCHNSTAT_CLOSED))?;
    }
    equal("ports begin again", unbound()?, first)?;
    equal("the virtual interrupt is free", hypercall::bind_virq(VIRQ_TIMER, 0).map(drop), Ok(()))?;
    equal("a domain that isn't there", hypercall::reset_ports(STRANGER), Err(Errno::ESRCH))
}

/// Priorities are for FIFO delivery.
pub fn priority() -> Told {
    let port = unbound()?;
    equal("set_priority", hypercall::set_priority(port, 3), Err(Errno::ENOSYS))
}
