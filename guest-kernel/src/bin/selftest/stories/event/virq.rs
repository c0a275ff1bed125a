//! Virtual interrupts.

use super::{NOBODY, refusal};
use crate::check::{Told, equal};
use guest_kernel::{hypercall, vcpu};
use pv_abi::errno::Errno;
use pv_abi::event::*;

/// One port for each.
pub fn bind() -> Told {
    for virq in [VIRQ_TIMER, VIRQ_DEBUG] {
        let port = hypercall::bind_virq(virq, 0).map_err(refusal)?;
        let status = hypercall::port_status(port).map_err(refusal)?;
        equal("status", (status.status, status.vcpu, status.detail), (EVTCHNSTAT_VIRQ, 0, virq))?;
        equal("a second port", hypercall::bind_virq(virq, 0), Err(Errno::EEXIST))?;
        equal("send", hypercall::send(port), Err(Errno::EINVAL))?;
        equal("move", hypercall::bind_vcpu(port, 0), Err(Errno::EINVAL))?;
        equal("close", hypercall::close_port(port), Ok(()))?;
        equal("free again", hypercall::bind_virq(virq, 0).map(drop), Ok(()))?;
    }
    Ok(())
}

/// Numbers that aren't there.
pub fn refusals() -> Told {
    for virq in [NR_VIRQS, 64, u32::MAX] {
        equal("no such interrupt", hypercall::bind_virq(virq, 0), Err(Errno::EINVAL))?;
    }
    for id in [NOBODY, u32::MAX] {
        equal("no such vCPU", hypercall::bind_virq(VIRQ_TIMER, id), Err(Errno::ENOENT))?;
    }
    equal("one for the domain, by its second vCPU", hypercall::bind_virq(VIRQ_DOM_EXC, 1), Err(Errno::EINVAL))?;
    if vcpu::count() > 1 {
        equal("another vCPU's", hypercall::bind_virq(VIRQ_DEBUG, 1).map(drop), Ok(()))?;
        equal("twice", hypercall::bind_virq(VIRQ_DEBUG, 1), Err(Errno::EEXIST))?;
    }
    Ok(())
}
