//! `domctl`: creation and control of domains by the control domain (`domctl.h`).
//!
//! What is looked at comes in Xen's order: the structure, its version, the domain, the caller's privilege. So a caller
//! without privilege learns whether a domain exists, as on Xen, and nothing else.

mod context;
mod create;
mod info;
mod life;
mod scheduling;

use pv_abi::domctl::{
    Domctl, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_GETDOMAININFO, XEN_DOMCTL_GETVCPUAFFINITY,
    XEN_DOMCTL_GETVCPUCONTEXT, XEN_DOMCTL_GETVCPUINFO, XEN_DOMCTL_HYPERCALL_INIT, XEN_DOMCTL_INTERFACE_VERSION,
    XEN_DOMCTL_IOMEM_PERMISSION, XEN_DOMCTL_IOPORT_PERMISSION, XEN_DOMCTL_IRQ_PERMISSION, XEN_DOMCTL_MAX_MEM,
    XEN_DOMCTL_MAX_VCPUS, XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_SCHEDULER_OP, XEN_DOMCTL_SETDOMAINHANDLE,
    XEN_DOMCTL_SETVCPUAFFINITY, XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_UNPAUSEDOMAIN,
};
use pv_abi::errno::Errno;

use super::call::payload;
use super::{Call, Platform, Reply};
use crate::addr::DomainId;

pub(super) use info::domain_info;

/// `(struct xen_domctl *)`.
pub(super) fn domctl<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let mut request: Domctl = call.read(call.word(0))?;
    if request.interface_version != XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES.into());
    }
    let id = DomainId(request.domain);
    match request.cmd {
        XEN_DOMCTL_CREATEDOMAIN => {
            privileged(call)?;
            return create::create(call, request);
        }
        XEN_DOMCTL_GETDOMAININFO => {
            privileged(call)?;
            return info::get_domain_info(call, request);
        }
        _ => {}
    }
    let target = call.target(id)?;
    match request.cmd {
        XEN_DOMCTL_DESTROYDOMAIN => life::destroy(call, &target),
        XEN_DOMCTL_PAUSEDOMAIN => life::pause(call, &target),
        XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(call, &target),
        XEN_DOMCTL_MAX_MEM => life::max_mem(&target, payload(&mut request.u)),
        XEN_DOMCTL_MAX_VCPUS => life::max_vcpus(call, &target, payload(&mut request.u)),
        XEN_DOMCTL_SETDOMAINHANDLE => life::set_handle(&target, payload(&mut request.u)),
        XEN_DOMCTL_GETVCPUINFO => info::get_vcpu_info(call, &target, request),
        XEN_DOMCTL_SCHEDULER_OP => scheduling::parameters(call, &target, request),
        XEN_DOMCTL_SETVCPUAFFINITY => scheduling::set_affinity(call, &target, payload(&mut request.u)),
        XEN_DOMCTL_GETVCPUAFFINITY => scheduling::get_affinity(call, &target, payload(&mut request.u)),
        XEN_DOMCTL_SETVCPUCONTEXT => context::set(call, target, payload(&mut request.u)),
        XEN_DOMCTL_GETVCPUCONTEXT => context::get(call, &target, payload(&mut request.u)),
        XEN_DOMCTL_HYPERCALL_INIT => context::hypercall_page(call, &target, payload(&mut request.u)),
        // The hardware is not passed on.
        XEN_DOMCTL_IRQ_PERMISSION | XEN_DOMCTL_IOMEM_PERMISSION | XEN_DOMCTL_IOPORT_PERMISSION => {
            Err(Errno::EOPNOTSUPP.into())
        }
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// # Errors
/// `EPERM`.
pub(super) fn privileged<P: Platform>(call: &Call<'_, P>) -> Result<(), Errno> {
    if call.platform.is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

/// Copies a request back out.
fn answer<P: Platform>(call: &mut Call<'_, P>, request: &Domctl) -> Reply {
    call.write(call.word(0), request)?;
    Ok(0)
}
