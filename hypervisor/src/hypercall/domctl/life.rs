//! What a domain may do and have, and its end.

use pv_abi::domctl::{MaxMem, MaxVcpus, SetDomainHandle};
use pv_abi::errno::Errno;

use crate::hypercall::target::Target;
use crate::hypercall::{Call, Otherwise, Platform, Reply};

/// Frames in a KiB, as a shift.
const KIB_SHIFT: u32 = 2;

/// `XEN_DOMCTL_destroydomain`: done when the domain owns nothing any more but what others still refer to.
pub(super) fn destroy<P: Platform>(call: &mut Call<'_, P>, target: &P::Target) -> Reply {
    not_the_caller(call, target)?;
    if call.platform.destroy(target) { Ok(0) } else { Err(Otherwise::AGAIN) }
}

/// `XEN_DOMCTL_pausedomain`: when it returns, no vCPU of the domain is on a CPU.
pub(super) fn pause<P: Platform>(call: &mut Call<'_, P>, target: &P::Target) -> Reply {
    not_the_caller(call, target)?;
    call.platform.pause(target)?;
    Ok(0)
}

/// `XEN_DOMCTL_unpausedomain`.
pub(super) fn unpause<P: Platform>(call: &mut Call<'_, P>, target: &P::Target) -> Reply {
    call.platform.unpause(target)?;
    Ok(0)
}

/// `XEN_DOMCTL_max_mem`.
pub(super) fn max_mem<T: Target>(target: &T, request: &MaxMem) -> Reply {
    target.set_max_pages(request.max_memkb >> KIB_SHIFT);
    Ok(0)
}

/// `XEN_DOMCTL_max_vcpus`: the number was given when the domain was created, and its vCPUs are there since.
pub(super) fn max_vcpus<P: Platform>(call: &Call<'_, P>, target: &P::Target, request: &MaxVcpus) -> Reply {
    not_the_caller(call, target)?;
    if target.events().vcpus().len() == request.max as usize { Ok(0) } else { Err(Errno::EINVAL.into()) }
}

/// `XEN_DOMCTL_setdomainhandle`.
pub(super) fn set_handle<T: Target>(target: &T, request: &SetDomainHandle) -> Reply {
    target.set_handle(request.handle);
    Ok(0)
}

/// # Errors
/// `EINVAL`: a domain can't stop itself this way.
pub(super) fn not_the_caller<P: Platform>(call: &Call<'_, P>, target: &P::Target) -> Result<(), Errno> {
    if target.id() == call.vcpu.domain { Err(Errno::EINVAL) } else { Ok(()) }
}
