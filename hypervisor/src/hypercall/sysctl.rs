//! `sysctl`: the machine as a whole, for the control domain (`sysctl.h`).

use pv_abi::domctl::{GetDomainInfo, XEN_SCHEDULER_CREDIT};
use pv_abi::errno::Errno;
use pv_abi::sysctl::{
    AvailHeap, CpuTopo, CpuTopoInfo, GetDomainInfoList, PhysCaps, PhysInfo, ReadConsole, SchedId, Sysctl,
    XEN_SYSCTL_AVAILHEAP, XEN_SYSCTL_CPUTOPOINFO, XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_INTERFACE_VERSION,
    XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_READCONSOLE, XEN_SYSCTL_SCHED_ID,
};

use super::call::payload;
use super::domctl::{domain_info, privileged};
use super::target::MachineFacts;
use super::{Call, Platform, Reply};
use crate::addr::{DomainId, PAGE_SHIFT};
use crate::machine::log_ring::LOG_SIZE;

/// `(struct xen_sysctl *)`.
pub(super) fn sysctl<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let mut request: Sysctl = call.read(call.word(0))?;
    if request.interface_version != XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES.into());
    }
    privileged(call)?;
    match request.cmd {
        XEN_SYSCTL_PHYSINFO => *payload(&mut request.u) = phys_info(call),
        // Its parameters are those of Pavise's own.
        XEN_SYSCTL_SCHED_ID => *payload(&mut request.u) = SchedId { sched_id: XEN_SCHEDULER_CREDIT },
        XEN_SYSCTL_GETDOMAININFOLIST => list(call, payload(&mut request.u))?,
        XEN_SYSCTL_AVAILHEAP => {
            let heap: &mut AvailHeap = payload(&mut request.u);
            heap.avail_bytes = call.platform.machine().free_pages << PAGE_SHIFT;
        }
        XEN_SYSCTL_CPUTOPOINFO => topology(call, payload(&mut request.u))?,
        XEN_SYSCTL_READCONSOLE => read_log(call, payload(&mut request.u))?,
        _ => return Err(Errno::ENOSYS.into()),
    }
    call.write(call.word(0), &request)?;
    Ok(0)
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

/// Writes where each CPU is, as far as there is room: a core of its own, as [`phys_info`] says. Without a place for that the
/// caller asks only how many there are.
fn topology<P: Platform>(call: &mut Call<'_, P>, request: &mut CpuTopoInfo) -> Result<(), Errno> {
    let cpus = call.platform.machine().cpus;
    let told = if request.cputopo == 0 { cpus } else { cpus.min(request.num_cpus) };
    if request.cputopo != 0 {
        for cpu in 0..told {
            let offset = u64::from(cpu) * size_of::<CpuTopo>() as u64;
            let place = CpuTopo { core: cpu, socket: 0, node: 0 };
            call.write(request.cputopo.wrapping_add(offset), &place)?;
        }
    }
    request.num_cpus = told;
    Ok(())
}

/// Copies what was logged, from where the caller says, if that is there yet, or else from the first that is. With `clear`
/// the log begins behind what was told.
fn read_log<P: Platform>(call: &mut Call<'_, P>, request: &mut ReadConsole) -> Result<(), Errno> {
    let mut from = (request.incremental != 0).then_some(request.index);
    let mut told = 0;
    let mut part = [0; 256];
    // The log has an end, even if others write to it meanwhile.
    while told < request.count.min(LOG_SIZE) {
        let most = part.len().min((request.count - told) as usize);
        let (count, next) = call.platform.read_log(from, &mut part[..most]);
        from = Some(next);
        request.index = next;
        if count == 0 {
            break;
        }
        let place = request.buffer.wrapping_add(told.into());
        call.platform.write_bytes(place, &part[..count]).map_err(|_| Errno::EFAULT)?;
        told += u32::try_from(count).unwrap_or(0);
    }
    request.count = told;
    if request.clear != 0 {
        call.platform.clear_log(request.index);
    }
    Ok(())
}
