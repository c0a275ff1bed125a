//! New domains: `XEN_DOMCTL_createdomain`.

use pv_abi::domctl::{CreateDomain, Domctl};
use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;

use super::answer;
use crate::addr::DomainId;
use crate::domain::MAX_VCPUS;
use crate::event::DEFAULT_MAX_PORTS;
use crate::grant::Limits;
use crate::hypercall::call::payload;
use crate::hypercall::target::NewDomain;
use crate::hypercall::{Call, Platform, Reply};

/// The domain has its vCPUs, all down, and no memory; it is paused once. Its number is the one that is asked for, or, for 0
/// and reserved numbers, some that is free.
pub(super) fn create<P: Platform>(call: &mut Call<'_, P>, mut request: Domctl) -> Reply {
    let config: CreateDomain = *payload(&mut request.u);
    check(&config)?;
    let id = (1..DOMID_FIRST_RESERVED).contains(&request.domain).then_some(DomainId(request.domain));
    let max_ports = match config.max_evtchn_port {
        // None at all would be of no use to anybody.
        0 => DEFAULT_MAX_PORTS,
        highest => highest.saturating_add(1),
    };
    let new =
        NewDomain { id, vcpus: config.max_vcpus, handle: config.handle, grants: grant_limits(&config)?, max_ports };
    request.domain = call.platform.create(&new)?.0;
    answer(call, &request)
}

/// Refuses what a PV domain can't have, or what Pavise hasn't.
fn check(config: &CreateDomain) -> Result<(), Errno> {
    /// Highest version of grant tables that the ABI knows; in the low bits of `grant_opts`.
    const MAX_GRANT_VERSION: u32 = 2;
    const GRANT_VERSION_MASK: u32 = 0xf;
    let CreateDomain { flags, iommu_opts, max_vcpus, grant_opts, vmtrace_size, cpupool_id, arch, .. } = *config;
    let plain = flags == 0 && iommu_opts == 0 && vmtrace_size == 0 && arch.emulation_flags == 0 && arch.misc_flags == 0;
    let grants = grant_opts & GRANT_VERSION_MASK <= MAX_GRANT_VERSION && grant_opts & !GRANT_VERSION_MASK == 0;
    if !plain || !grants || !(1..=MAX_VCPUS).contains(&max_vcpus) {
        return Err(Errno::EINVAL);
    }
    // There is one pool of CPUs.
    if cpupool_id == 0 { Ok(()) } else { Err(Errno::ENOENT) }
}

/// What the domain may have of grants: the default for a negative number, and never more than that, as in Xen.
fn grant_limits(config: &CreateDomain) -> Result<Limits, Errno> {
    let limit = |wanted: i32, default: u32| u32::try_from(wanted).unwrap_or(default);
    let limits = Limits {
        frames: limit(config.max_grant_frames, Limits::DEFAULT.frames),
        maptrack_frames: limit(config.max_maptrack_frames, Limits::DEFAULT.maptrack_frames),
    };
    let possible = (1..=Limits::DEFAULT.frames).contains(&limits.frames)
        && limits.maptrack_frames <= Limits::DEFAULT.maptrack_frames;
    if possible { Ok(limits) } else { Err(Errno::EINVAL) }
}
