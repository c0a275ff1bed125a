//! The calls of the control domain: `domctl`, `sysctl`, and `memory_op` about another domain. Headers: `domctl.h`,
//! `sysctl.h`, `memory.h`.

use crate::hypercall::{self, Answer};
use core::mem::{offset_of, size_of};
use pv_abi::domctl::{
    CreateDomain, Domctl, GetDomainInfo, GetVcpuInfo, MaxMem, SchedCredit, SchedulerOp, VcpuAffinity,
    VcpuAffinityFlags, VcpuContext, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_GETDOMAININFO,
    XEN_DOMCTL_GETVCPUAFFINITY, XEN_DOMCTL_GETVCPUCONTEXT, XEN_DOMCTL_GETVCPUINFO, XEN_DOMCTL_INTERFACE_VERSION,
    XEN_DOMCTL_MAX_MEM, XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO,
    XEN_DOMCTL_SCHEDULER_OP, XEN_DOMCTL_SETVCPUAFFINITY, XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_UNPAUSEDOMAIN,
    XEN_SCHEDULER_CREDIT, XenctlBitmap,
};
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::memory::{MemoryReservation, XENMEM_POPULATE_PHYSMAP};
use pv_abi::sysctl::{
    CpuTopo, CpuTopoInfo, GetDomainInfoList, PhysInfo, ReadConsole, Sysctl, XEN_SYSCTL_CPUTOPOINFO,
    XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_READCONSOLE,
};
use pv_abi::vcpu::VcpuGuestContext;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A payload of `domctl` or `sysctl`, or none.
pub trait Payload: FromBytes + IntoBytes + KnownLayout + Immutable + Copy {}

impl<T: FromBytes + IntoBytes + KnownLayout + Immutable + Copy> Payload for T {}

/// A request of `domctl`; the payload is what its command says.
///
/// # Panics
/// If the payload is larger than there is room for.
pub fn request<T: Payload>(command: u32, domain: u16, payload: T) -> Domctl {
    let mut request =
        Domctl { cmd: command, interface_version: XEN_DOMCTL_INTERFACE_VERSION, domain, ..Domctl::default() };
    request.u.as_mut_bytes()[..size_of::<T>()].copy_from_slice(payload.as_bytes());
    request
}

/// Makes a request, whatever it names.
///
/// # Errors
/// The call's.
///
/// # Safety
/// Memory that the payload names is the caller's, for what the command does with it.
pub unsafe fn domctl(request: &mut Domctl) -> Answer {
    // SAFETY: the structure is ours; the rest is the caller's promise.
    unsafe { hypercall::call(number::DOMCTL, [(&raw mut *request) as u64, 0, 0, 0, 0]) }
}

/// Reads the payload of an answer.
fn payload<T: Payload>(words: &[u64; 16]) -> T {
    T::read_from_prefix(words.as_bytes()).expect("payloads fit").0
}

/// A command about a domain that has no payload, or none with addresses.
fn command<T: Payload>(command: u32, domain: u16, payload: T) -> Answer {
    // SAFETY: no address is in the payload: callers are below.
    unsafe { domctl(&mut request(command, domain, payload)) }
}

/// Creates a domain with `vcpus` vCPUs and no memory. Its number is `id`, or for 0 any that is free.
///
/// # Errors
/// The call's.
pub fn create_domain(id: u16, config: CreateDomain) -> Result<u16, Errno> {
    let mut request = request(XEN_DOMCTL_CREATEDOMAIN, id, config);
    // SAFETY: no address is in the payload.
    unsafe { domctl(&mut request) }.map(|_| request.domain)
}

/// Ends a domain.
///
/// # Errors
/// The call's.
pub fn destroy_domain(id: u16) -> Answer {
    command(XEN_DOMCTL_DESTROYDOMAIN, id, ())
}

/// Pauses a domain once more.
///
/// # Errors
/// The call's.
pub fn pause_domain(id: u16) -> Answer {
    command(XEN_DOMCTL_PAUSEDOMAIN, id, ())
}

/// Ends one pause.
///
/// # Errors
/// The call's.
pub fn unpause_domain(id: u16) -> Answer {
    command(XEN_DOMCTL_UNPAUSEDOMAIN, id, ())
}

/// Sets how many pages a domain may have.
///
/// # Errors
/// The call's.
pub fn set_max_pages(id: u16, pages: u64) -> Answer {
    command(XEN_DOMCTL_MAX_MEM, id, MaxMem { max_memkb: pages << 2 })
}

/// What there is to tell of the domain with the least number from `id` up.
///
/// # Errors
/// The call's.
pub fn domain_info(id: u16) -> Result<GetDomainInfo, Errno> {
    let mut request = request(XEN_DOMCTL_GETDOMAININFO, id, ());
    // SAFETY: no address is in the payload.
    unsafe { domctl(&mut request) }.map(|_| payload(&request.u))
}

/// What there is to tell of a vCPU.
///
/// # Errors
/// The call's.
pub fn vcpu_info(id: u16, vcpu: u32) -> Result<GetVcpuInfo, Errno> {
    let mut request = request(XEN_DOMCTL_GETVCPUINFO, id, GetVcpuInfo { vcpu, ..GetVcpuInfo::default() });
    // SAFETY: no address is in the payload.
    unsafe { domctl(&mut request) }.map(|_| payload(&request.u))
}

/// Sets a domain's weight and its cap in percent of one CPU.
///
/// # Errors
/// The call's.
pub fn set_share(id: u16, weight: u16, cap: u16) -> Answer {
    command(XEN_DOMCTL_SCHEDULER_OP, id, scheduler_op(XEN_DOMCTL_SCHEDOP_PUTINFO, SchedCredit { weight, cap }))
}

/// A domain's weight and its cap.
///
/// # Errors
/// The call's.
pub fn share(id: u16) -> Result<(u16, u16), Errno> {
    let payload_in = scheduler_op(XEN_DOMCTL_SCHEDOP_GETINFO, SchedCredit::default());
    let mut request = request(XEN_DOMCTL_SCHEDULER_OP, id, payload_in);
    // SAFETY: no address is in the payload.
    unsafe { domctl(&mut request) }.map(|_| {
        let SchedulerOp { credit: SchedCredit { weight, cap }, .. } = payload(&request.u);
        (weight, cap)
    })
}

fn scheduler_op(command: u32, credit: SchedCredit) -> SchedulerOp {
    SchedulerOp { sched_id: XEN_SCHEDULER_CREDIT, cmd: command, credit, ..SchedulerOp::default() }
}

/// Sets which of the first 64 CPUs a vCPU may use; those that it may use then.
///
/// # Errors
/// The call's.
pub fn set_affinity(id: u16, vcpu: u32, cpus: u64) -> Result<u64, Errno> {
    affinity_call(XEN_DOMCTL_SETVCPUAFFINITY, id, vcpu, cpus)
}

/// Which of the first 64 CPUs a vCPU may use.
///
/// # Errors
/// The call's.
pub fn affinity(id: u16, vcpu: u32) -> Result<u64, Errno> {
    affinity_call(XEN_DOMCTL_GETVCPUAFFINITY, id, vcpu, 0)
}

/// Sets which of the first 64 CPUs a vCPU prefers; those of them that it may use.
///
/// # Errors
/// The call's.
pub fn set_soft_affinity(id: u16, vcpu: u32, cpus: u64) -> Result<u64, Errno> {
    soft_affinity_call(XEN_DOMCTL_SETVCPUAFFINITY, id, vcpu, cpus)
}

/// Which of the first 64 CPUs a vCPU prefers, of those that it may use.
///
/// # Errors
/// The call's.
pub fn soft_affinity(id: u16, vcpu: u32) -> Result<u64, Errno> {
    soft_affinity_call(XEN_DOMCTL_GETVCPUAFFINITY, id, vcpu, 0)
}

fn affinity_call(command: u32, id: u16, vcpu: u32, cpus: u64) -> Result<u64, Errno> {
    let flags = VcpuAffinityFlags::HARD.bits();
    map_call(command, id, cpus, |cpumap_hard| VcpuAffinity { vcpu, flags, cpumap_hard, ..VcpuAffinity::default() })
}

fn soft_affinity_call(command: u32, id: u16, vcpu: u32, cpus: u64) -> Result<u64, Errno> {
    let flags = VcpuAffinityFlags::SOFT.bits();
    map_call(command, id, cpus, |cpumap_soft| VcpuAffinity { vcpu, flags, cpumap_soft, ..VcpuAffinity::default() })
}

fn map_call(
    command: u32,
    id: u16,
    mut cpus: u64,
    payload: impl FnOnce(XenctlBitmap) -> VcpuAffinity,
) -> Result<u64, Errno> {
    let payload = payload(XenctlBitmap { bitmap: (&raw mut cpus) as u64, nr_bits: u64::BITS, _pad: 0 });
    // SAFETY: the bitmap is ours, and of the length that is named.
    unsafe { domctl(&mut request(command, id, payload)) }.map(|_| cpus)
}

/// Gives a vCPU the state to start from.
///
/// # Errors
/// The call's.
pub fn set_context(id: u16, vcpu: u32, context: &VcpuGuestContext) -> Answer {
    let payload = VcpuContext { vcpu, ctxt: (&raw const *context) as u64, ..VcpuContext::default() };
    // SAFETY: the call only reads the context.
    unsafe { domctl(&mut request(XEN_DOMCTL_SETVCPUCONTEXT, id, payload)) }
}

/// Reads a vCPU's state.
///
/// # Errors
/// The call's.
pub fn read_context(id: u16, vcpu: u32, context: &mut VcpuGuestContext) -> Answer {
    let payload = VcpuContext { vcpu, ctxt: (&raw mut *context) as u64, ..VcpuContext::default() };
    // SAFETY: the call writes one context, which is borrowed for it.
    unsafe { domctl(&mut request(XEN_DOMCTL_GETVCPUCONTEXT, id, payload)) }
}

/// A request of `sysctl`.
fn sysctl(command: u32, fill: impl FnOnce(&mut [u8])) -> Result<Sysctl, Errno> {
    let mut request = Sysctl { cmd: command, interface_version: XEN_SYSCTL_INTERFACE_VERSION, ..Sysctl::default() };
    fill(request.u.as_mut_bytes());
    // SAFETY: the structure is ours; addresses in the payload are those of exclusive borrows, of the lengths named.
    unsafe { hypercall::call(number::SYSCTL, [(&raw mut request) as u64, 0, 0, 0, 0]) }.map(|_| request)
}

/// What there is to tell of the machine.
///
/// # Errors
/// The call's.
pub fn physical_info() -> Result<PhysInfo, Errno> {
    sysctl(XEN_SYSCTL_PHYSINFO, |_| {}).map(|request| payload(&request.u))
}

/// Copies what the hypervisor logged to `into`, from `from` on if that is there, else from the first that is; how many bytes,
/// and where to go on.
///
/// # Errors
/// The call's.
pub fn read_log(from: Option<u32>, into: &mut [u8]) -> Result<(usize, u32), Errno> {
    let payload_in = ReadConsole {
        incremental: from.is_some().into(),
        index: from.unwrap_or(0),
        buffer: into.as_mut_ptr() as u64,
        count: u32::try_from(into.len()).unwrap_or(u32::MAX),
        ..ReadConsole::default()
    };
    let request = sysctl(XEN_SYSCTL_READCONSOLE, |bytes| {
        bytes[..size_of::<ReadConsole>()].copy_from_slice(payload_in.as_bytes());
    })?;
    let ReadConsole { count, index, .. } = payload(&request.u);
    Ok((count as usize, index))
}

/// Fills `list` with the places of the CPUs in the machine; how many there were.
///
/// # Errors
/// The call's.
pub fn cpu_topology(list: &mut [CpuTopo]) -> Result<usize, Errno> {
    let payload_in = CpuTopoInfo {
        num_cpus: u32::try_from(list.len()).unwrap_or(u32::MAX),
        cputopo: list.as_mut_ptr() as u64,
        ..CpuTopoInfo::default()
    };
    let request = sysctl(XEN_SYSCTL_CPUTOPOINFO, |bytes| {
        bytes[..size_of::<CpuTopoInfo>()].copy_from_slice(payload_in.as_bytes());
    })?;
    let CpuTopoInfo { num_cpus, .. } = payload(&request.u);
    Ok(num_cpus as usize)
}

/// Fills `list` with what there is to tell of the domains from `first` up; how many there were.
///
/// # Errors
/// The call's.
pub fn domain_list(first: u16, list: &mut [GetDomainInfo]) -> Result<usize, Errno> {
    let payload = GetDomainInfoList {
        first_domain: first,
        max_domains: u32::try_from(list.len()).unwrap_or(u32::MAX),
        buffer: list.as_mut_ptr() as u64,
        ..GetDomainInfoList::default()
    };
    let request = sysctl(XEN_SYSCTL_GETDOMAININFOLIST, |bytes| {
        bytes[..size_of::<GetDomainInfoList>()].copy_from_slice(payload.as_bytes());
    })?;
    let (done, _) = u32::read_from_prefix(&request.u.as_bytes()[offset_of!(GetDomainInfoList, num_domains)..])
        .expect("the payload is in the request");
    Ok(done as usize)
}

/// Adds extents of 2^`order` frames to a domain at the pseudo-physical frames that `frames` names; it receives each one's
/// first machine frame. The answer is how many were added.
///
/// # Errors
/// The call's.
pub fn populate(domain: u16, frames: &mut [u64], order: u32) -> Answer {
    let argument = MemoryReservation {
        extent_start: frames.as_mut_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: order,
        mem_flags: 0,
        domid: domain,
        _pad: [0; 3],
    };
    // SAFETY: the call writes the list, and no frame is taken away.
    unsafe { hypercall::memory_op(XENMEM_POPULATE_PHYSMAP, (&raw const argument) as u64) }
}
