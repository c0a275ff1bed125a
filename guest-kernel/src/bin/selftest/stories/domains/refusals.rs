//! What `domctl` and `sysctl` refuse: to everybody, and to those without control.

use super::done;
use crate::check::{Ending, Told, call, equal, holds, reads, refused, refuses_bad_pointers, writes};
use alloc::format;
use guest_kernel::control::calls::{self, Payload, domctl, request};
use guest_kernel::hypercall::Answer;
use pv_abi::domctl::*;
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::memory::{MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP};
use pv_abi::sysctl::{GetDomainInfoList, Sysctl, XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_INTERFACE_VERSION};
use zerocopy::IntoBytes;

fn ask<T: Payload>(command: u32, domain: u16, payload: T) -> Answer {
    // SAFETY: addresses in payloads are bad ones, or name memory that is lent for the call.
    unsafe { domctl(&mut request(command, domain, payload)) }
}

/// The order in which arguments are looked at: the structure, its version, the domain, privilege.
pub fn without_control() -> Told {
    refuses_bad_pointers("domctl", |pointer| call(number::DOMCTL, [pointer]))?;
    refuses_bad_pointers("sysctl", |pointer| call(number::SYSCTL, [pointer]))?;
    let old = Domctl { cmd: XEN_DOMCTL_PAUSEDOMAIN, domain: 1, ..Domctl::default() };
    refused("an old domctl", call(number::DOMCTL, [reads(&old)]), Errno::EACCES)?;
    refused("an old sysctl", call(number::SYSCTL, [reads(&Sysctl::default())]), Errno::EACCES)?;
    let config =
        CreateDomain { max_vcpus: 1, max_grant_frames: -1, max_maptrack_frames: -1, ..CreateDomain::default() };
    refused("createdomain", calls::create_domain(0, config).map(u64::from), Errno::EPERM)?;
    for command in [XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN, XEN_DOMCTL_MAX_MEM, 9999] {
        refused(&format!("domctl {command} on itself"), ask(command, 1, ()), Errno::EPERM)?;
        refused(&format!("domctl {command} on nobody"), ask(command, 77, ()), Errno::ESRCH)?;
    }
    refused("getdomaininfo", calls::domain_info(1).map(|_| 0), Errno::EPERM)?;
    refused("physinfo", calls::physical_info().map(|_| 0), Errno::EPERM)
}

/// Arguments of the control domain that make no sense, or would do harm.
pub fn with_control() -> Told {
    refuses_bad_pointers("domctl", |pointer| call(number::DOMCTL, [pointer]))?;
    refuses_bad_pointers("sysctl", |pointer| call(number::SYSCTL, [pointer]))?;
    let good = CreateDomain { max_vcpus: 2, max_grant_frames: -1, max_maptrack_frames: -1, ..CreateDomain::default() };
    let arch = |emulation_flags, misc_flags| ArchDomainConfig { emulation_flags, misc_flags };
    for (what, config) in [
        ("no vCPU", CreateDomain { max_vcpus: 0, ..good }),
        ("33 vCPUs", CreateDomain { max_vcpus: 33, ..good }),
        ("all the vCPUs there could be", CreateDomain { max_vcpus: u32::MAX, ..good }),
        ("HVM", CreateDomain { flags: CreateDomainFlags::HVM.bits(), ..good }),
        ("an I/O MMU", CreateDomain { flags: CreateDomainFlags::IOMMU.bits(), ..good }),
        ("all flags", CreateDomain { flags: u32::MAX, ..good }),
        ("devices to emulate", CreateDomain { arch: arch(1, 0), ..good }),
        ("odd flags", CreateDomain { arch: arch(0, 1 << 31), ..good }),
        ("a trace buffer", CreateDomain { vmtrace_size: 4096, ..good }),
        ("grant tables of version 3", CreateDomain { grant_opts: 3, ..good }),
    ] {
        refused(what, calls::create_domain(0, config).map(u64::from), Errno::EINVAL)?;
    }
    refused(
        "another pool",
        calls::create_domain(0, CreateDomain { cpupool_id: 1, ..good }).map(u64::from),
        Errno::ENOENT,
    )?;

    let id = calls::create_domain(500, good).map_err(|errno| Ending::Fail(format!("createdomain: {errno:?}")))?;
    equal("the number that was asked for", id, 500)?;
    refused("the same number again", calls::create_domain(500, good).map(u64::from), Errno::EEXIST)?;
    refused("ending itself", ask(XEN_DOMCTL_DESTROYDOMAIN, 0, ()), Errno::EINVAL)?;
    refused("pausing itself", ask(XEN_DOMCTL_PAUSEDOMAIN, 0, ()), Errno::EINVAL)?;
    refused("a command that isn't there", ask(9999, id, ()), Errno::ENOSYS)?;
    refused("other vCPUs", ask(XEN_DOMCTL_MAX_VCPUS, id, MaxVcpus { max: 3 }), Errno::EINVAL)?;
    done("its vCPUs", ask(XEN_DOMCTL_MAX_VCPUS, id, MaxVcpus { max: 2 }))?;
    for pause in 2..=255 {
        done(&format!("pause {pause}"), calls::pause_domain(id))?;
    }
    refused("pause 256", calls::pause_domain(id), Errno::EOVERFLOW)?;
    contexts(id)?;
    memory(id)?;
    let list = GetDomainInfoList { max_domains: u32::MAX, buffer: 0x1000, ..GetDomainInfoList::default() };
    let mut sysctl =
        Sysctl { cmd: XEN_SYSCTL_GETDOMAININFOLIST, interface_version: XEN_SYSCTL_INTERFACE_VERSION, u: [0; 16] };
    sysctl.u.as_mut_bytes()[..24].copy_from_slice(list.as_bytes());
    refused("a list to nowhere", call(number::SYSCTL, [writes(&mut sysctl)]), Errno::EFAULT)?;
    done("destroy", calls::destroy_domain(id))
}

fn contexts(id: u16) -> Told {
    let at = |vcpu, ctxt| VcpuContext { vcpu, ctxt, ..VcpuContext::default() };
    refused("a vCPU that isn't there", ask(XEN_DOMCTL_SETVCPUCONTEXT, id, at(2, 0x1000)), Errno::EINVAL)?;
    refused(
        "a vCPU far away",
        ask(XEN_DOMCTL_GETVCPUINFO, id, GetVcpuInfo { vcpu: u32::MAX, ..GetVcpuInfo::default() }),
        Errno::ESRCH,
    )?;
    refused("a reset", ask(XEN_DOMCTL_SETVCPUCONTEXT, id, at(0, 0)), Errno::EOPNOTSUPP)?;
    refused("no state yet", ask(XEN_DOMCTL_GETVCPUCONTEXT, id, at(0, 0x1000)), Errno::ENODATA)?;
    refuses_bad_pointers("setvcpucontext", |pointer| ask(XEN_DOMCTL_SETVCPUCONTEXT, id, at(1, pointer)))?;
    // All zeros: no page table.
    let empty = [0u64; 646];
    refused("a context without tables", ask(XEN_DOMCTL_SETVCPUCONTEXT, id, at(0, reads(&empty))), Errno::EINVAL)?;
    refused(
        "hypercall stubs nowhere",
        ask(XEN_DOMCTL_HYPERCALL_INIT, id, HypercallInit { gmfn: u64::MAX }),
        Errno::EACCES,
    )
}

/// More memory than it may have, or than there is; and none of ours.
fn memory(id: u16) -> Told {
    equal("memory without a limit set", calls::populate(id, &mut [0], 0), Ok(0))?;
    done("max_mem", ask(XEN_DOMCTL_MAX_MEM, id, MaxMem { max_memkb: u64::MAX }))?;
    for (count, order) in [(u64::MAX, 0), (1 << 40, 9), (1, 64), (u64::MAX, u32::MAX)] {
        let nowhere = MemoryReservation {
            extent_start: 0x1000,
            nr_extents: count,
            extent_order: order,
            mem_flags: 0,
            domid: id,
            _pad: [0; 3],
        };
        for command in [XENMEM_POPULATE_PHYSMAP, XENMEM_DECREASE_RESERVATION] {
            let answer = call(number::MEMORY_OP, [command.into(), reads(&nowhere)]);
            equal(&format!("{count:#x} extents of order {order}"), answer, Ok(0))?;
        }
    }
    // All there is: it ends, and the hypervisor has memory of its own to go on with, if not for a domain's shared page.
    let mut frames = [0; 64];
    while calls::populate(id, &mut frames, 9) == Ok(64) {}
    while calls::populate(id, &mut frames, 0) == Ok(64) {}
    let free = super::free_pages()?;
    holds(&format!("{free} pages are left"), free < 64)?;
    let config =
        CreateDomain { max_vcpus: 1, max_grant_frames: -1, max_maptrack_frames: -1, ..CreateDomain::default() };
    match calls::create_domain(0, config) {
        Ok(other) => done("destroy", calls::destroy_domain(other))?,
        errno => equal("createdomain", errno, Err(Errno::ENOMEM))?,
    }
    done("a pause with no memory left", calls::pause_domain(id).or(Ok(0)))
}
