//! The state of a vCPU from outside, and the page of hypercall stubs.

use pv_abi::domctl::{HypercallInit, VcpuContext};
use pv_abi::errno::Errno;
use pv_abi::vcpu::VcpuGuestContext;
use zerocopy::FromZeros;

use super::life::not_the_caller;
use crate::addr::{Mfn, VcpuId};
use crate::domain::context::{Context, snapshot};
use crate::hypercall::target::{Other, Target};
use crate::hypercall::vcpu::fill;
use crate::hypercall::{Call, Otherwise, ParkedVcpu, Platform, Reply};
use crate::mm::perform::Unfinished;

/// `XEN_DOMCTL_setvcpucontext`: gives a vCPU that has none the state to start from. One that has a state gets other registers,
/// handlers and callbacks; its page tables and descriptor tables are to be what they are (`EOPNOTSUPP`, as in Xen).
pub(super) fn set<P: Platform>(call: &mut Call<'_, P>, target: P::Target, request: &VcpuContext) -> Reply {
    not_the_caller(call, &target)?;
    let id = VcpuId(request.vcpu);
    let events = target.events().clone();
    let link = events.vcpu(id).ok_or(Errno::EINVAL)?;
    if request.ctxt == 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    call.read_into(request.ctxt, &mut *context)?;
    let context = Context::check(context)?;
    let vcpu = take(call, &target, id)?;
    let mut other = Other::<P> { target, vcpu };
    let mask = call.platform.cr4_mask();
    let Other { target, vcpu } = &mut other;
    let reply = if !link.is_initialised() {
        let filled = fill(&mut call.platform.memory_of(target), &mut call.budget, &context, mask, vcpu);
        if filled.is_ok() {
            link.set_initialised();
            link.set_up(context.is_online());
        }
        call.filled("setvcpucontext", filled)
    } else if context.keeps_memory(vcpu.vcpu()) {
        let cpu = context.fill(vcpu.vcpu(), mask);
        vcpu.load(&cpu);
        link.set_up(context.is_online());
        Ok(0)
    } else {
        Err(Errno::EOPNOTSUPP.into())
    };
    call.give_back(other);
    reply
}

/// `XEN_DOMCTL_getvcpucontext`. The vCPU is off its CPU while it is read.
pub(super) fn get<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, request: &VcpuContext) -> Reply {
    not_the_caller(call, target)?;
    let id = VcpuId(request.vcpu);
    let initialised = target.events().vcpu(id).ok_or(Errno::EINVAL)?.is_initialised();
    if !initialised {
        return Err(Errno::ENODATA.into());
    }
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    let online = target.events().vcpu(id).is_some_and(|link| link.is_up());
    let mut vcpu = take(call, target, id)?;
    let cpu = vcpu.save();
    snapshot(vcpu.vcpu(), &cpu, online, &mut context);
    call.platform.give_vcpu(target, vcpu);
    call.write(request.ctxt, &*context)?;
    Ok(0)
}

fn take<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, id: VcpuId) -> Result<P::Parked, Otherwise> {
    if target.facts().dying {
        return Err(Errno::ESRCH.into());
    }
    call.platform.take_vcpu(target, id).ok_or(Otherwise::AGAIN)
}

/// `XEN_DOMCTL_hypercall_init`: fills a page of the domain with hypercall stubs.
pub(super) fn hypercall_page<P: Platform>(
    call: &mut Call<'_, P>,
    target: &P::Target,
    request: &HypercallInit,
) -> Reply {
    let (mfn, owner) = (Mfn(request.gmfn), target.id());
    match call.memory(|op, _| op.take_writable(mfn, owner)) {
        Ok(()) => {}
        Err(Unfinished::Again) => return Err(Otherwise::AGAIN),
        Err(Unfinished::Refused(refused)) => {
            call.refuse("hypercall_init", refused);
            return Err(Errno::EACCES.into());
        }
    }
    call.platform.fill_hypercall_page(mfn);
    let _: Result<(), Unfinished> = call.memory(|op, _| {
        op.put_writable(mfn);
        Ok(())
    });
    Ok(0)
}
