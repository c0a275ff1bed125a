//! What there is to tell of a domain and of its vCPUs.

use pv_abi::domctl::{DomainInfoFlags, Domctl, GetDomainInfo, GetVcpuInfo, XEN_DOMINF_SHUTDOWNSHIFT};
use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;

use super::answer;
use crate::addr::{DomainId, VcpuId};
use crate::domain::link::{Activity, VcpuLink};
use crate::domain::runstate::RunState;
use crate::hypercall::call::payload;
use crate::hypercall::target::Target;
use crate::hypercall::{Call, Platform, Reply};
use crate::mm::perform::Effects;

/// `XEN_DOMCTL_getdomaininfo`: of the domain of this number, or of the next one up.
pub(super) fn get_domain_info<P: Platform>(call: &mut Call<'_, P>, mut request: Domctl) -> Reply {
    if request.domain >= DOMID_FIRST_RESERVED {
        return Err(Errno::EINVAL.into());
    }
    let target = call.platform.target_from(DomainId(request.domain)).ok_or(Errno::ESRCH)?;
    let info = domain_info(call.platform, &target);
    request.domain = info.domain;
    *payload(&mut request.u) = info;
    answer(call, &request)
}

/// `XEN_DOMCTL_getvcpuinfo`.
pub(super) fn get_vcpu_info<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, mut request: Domctl) -> Reply {
    let info: &mut GetVcpuInfo = payload(&mut request.u);
    let link = target.events().vcpu(VcpuId(info.vcpu)).ok_or(Errno::ESRCH)?;
    let activity = link.activity();
    *info = GetVcpuInfo {
        vcpu: info.vcpu,
        online: link.is_up().into(),
        blocked: (activity == Activity::Asleep).into(),
        running: (activity == Activity::Running).into(),
        cpu_time: cpu_time(link, call.platform.now()),
        cpu: link.cpu().0,
        ..GetVcpuInfo::default()
    };
    answer(call, &request)
}

/// A domain as the ABI shows it.
pub fn domain_info<P: Platform>(platform: &mut P, target: &P::Target) -> GetDomainInfo {
    let (facts, now) = (target.facts(), platform.now());
    let links = target.events().vcpus();
    let up = || links.iter().filter(|link| link.is_up());
    let mut flags = DomainInfoFlags::empty();
    flags.set(DomainInfoFlags::DYING, facts.dying);
    flags.set(DomainInfoFlags::PAUSED, facts.paused);
    flags.set(DomainInfoFlags::BLOCKED, up().all(|link| link.activity() == Activity::Asleep));
    flags.set(DomainInfoFlags::RUNNING, up().any(|link| link.activity() == Activity::Running));
    if let Some(end) = facts.shutdown {
        flags |= DomainInfoFlags::SHUTDOWN;
        flags |= DomainInfoFlags::from_bits_retain(end.reason() << XEN_DOMINF_SHUTDOWNSHIFT);
    }
    let count = |links: usize| u32::try_from(links).unwrap_or(u32::MAX);
    GetDomainInfo {
        domain: target.id().0,
        flags: flags.bits(),
        tot_pages: platform.memory_of(target).frames().run(|frames| frames.allocated()),
        max_pages: facts.max_pages,
        shared_info_frame: facts.shared_info.0,
        cpu_time: links.iter().map(|link| cpu_time(link, now)).sum(),
        nr_online_vcpus: count(up().count()),
        max_vcpu_id: count(links.len()).wrapping_sub(1),
        handle: facts.handle,
        ..GetDomainInfo::default()
    }
}

/// Nanoseconds that a vCPU was on a CPU.
fn cpu_time(link: &VcpuLink, now: u64) -> u64 {
    link.run_states(now).time[RunState::Running as usize]
}
