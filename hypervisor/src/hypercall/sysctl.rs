//! `sysctl`: the machine as a whole, for the control domain (`sysctl.h`).

use pv_abi::domctl::{GetDomainInfo, XEN_SCHEDULER_CREDIT};
use pv_abi::errno::Errno;
use pv_abi::sysctl::{
    AvailHeap, GetDomainInfoList, PhysCaps, PhysInfo, SchedId, Sysctl, XEN_SYSCTL_AVAILHEAP,
    XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_SCHED_ID,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::domctl::{domain_info, privileged};
use super::target::MachineFacts;
use super::{Call, Platform, Reply};
use crate::addr::{DomainId, PAGE_SHIFT};

/// `(struct xen_sysctl *)`.
pub(super) fn sysctl<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let mut request: Sysctl = call.read(call.word(0))?;
    if request.interface_version != XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES.into());
    }
    privileged(call)?;
    match request.cmd {
        XEN_SYSCTL_PHYSINFO => *payload(&mut request) = phys_info(call),
        // Its parameters are those of Pavise's own.
        XEN_SYSCTL_SCHED_ID => *payload(&mut request) = SchedId { sched_id: XEN_SCHEDULER_CREDIT },
        XEN_SYSCTL_GETDOMAININFOLIST => list(call, payload(&mut request))?,
        XEN_SYSCTL_AVAILHEAP => {
            let heap: &mut AvailHeap = payload(&mut request);
            heap.avail_bytes = call.platform.machine().free_pages << PAGE_SHIFT;
        }
        _ => return Err(Errno::ENOSYS.into()),
    }
    call.write(call.word(0), &request)?;
    Ok(0)
}

fn payload<T: FromBytes + IntoBytes + KnownLayout + Immutable>(request: &mut Sysctl) -> &mut T {
    let (payload, _) =
        T::mut_from_prefix(request.u.as_mut_bytes()).expect("a payload fits, and its alignment is 8 at most");
    payload
}

/// One socket and one node, with a core for each CPU.
fn phys_info<P: Platform>(call: &Call<'_, P>) -> PhysInfo {
    let MachineFacts { cpus, khz, total_pages, free_pages } = call.platform.machine();
    PhysInfo {
        threads_per_core: 1,
        cores_per_socket: cpus,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        cpu_khz: khz,
        capabilities: PhysCaps::PV.bits(),
        total_pages,
        free_pages,
        max_mfn: call.platform.max_mfn().0.saturating_sub(1),
        ..PhysInfo::default()
    }
}

/// Writes a record for each domain, in the order of their numbers. There are so few domains that this needs no restart.
fn list<P: Platform>(call: &mut Call<'_, P>, request: &mut GetDomainInfoList) -> Result<(), Errno> {
    let mut next = Some(request.first_domain);
    request.num_domains = 0;
    while request.num_domains < request.max_domains
        && let Some(target) = next.and_then(|id| call.platform.target_from(DomainId(id)))
    {
        let info = domain_info(call.platform, &target);
        let offset = u64::from(request.num_domains) * size_of::<GetDomainInfo>() as u64;
        call.write(request.buffer.wrapping_add(offset), &info)?;
        request.num_domains += 1;
        next = info.domain.checked_add(1);
    }
    Ok(())
}
