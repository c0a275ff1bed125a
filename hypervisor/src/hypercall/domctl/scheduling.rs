//! A domain's share of the CPUs, and which of them its vCPUs may use.

use pv_abi::domctl::{
    Domctl, SchedulerOp, VcpuAffinity, VcpuAffinityFlags, XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO,
    XEN_SCHEDULER_CREDIT, XenctlBitmap,
};
use pv_abi::errno::Errno;

use super::answer;
use crate::addr::VcpuId;
use crate::domain::link::VcpuLink;
use crate::hypercall::call::payload;
use crate::hypercall::target::Target;
use crate::hypercall::{Call, Otherwise, Platform, Reply};
use crate::mm::flush::CpuSet;

/// Most bits of a bitmap of CPUs: what a guest wants to be cleared behind the CPUs that there could be has an end.
const MAX_BITS: u32 = 4096;

/// `XEN_DOMCTL_scheduler_op`: the parameters of Xen's credit scheduler, weight and cap, mean the same here.
pub(super) fn parameters<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, mut request: Domctl) -> Reply {
    /// What leaves a parameter as it is.
    const SAME_WEIGHT: u16 = 0;
    const SAME_CAP: u16 = u16::MAX;
    let op: &mut SchedulerOp = payload(&mut request.u);
    if op.sched_id != XEN_SCHEDULER_CREDIT {
        return Err(Errno::EINVAL.into());
    }
    let share = target.share();
    match op.cmd {
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            if op.credit.weight != SAME_WEIGHT {
                share.set_weight(op.credit.weight);
            }
            if op.credit.cap != SAME_CAP {
                share.set_cap(op.credit.cap);
            }
            call.platform.reschedule(target);
        }
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            op.credit.weight = share.weight();
            op.credit.cap = share.cap();
        }
        _ => return Err(Errno::EINVAL.into()),
    }
    answer(call, &request)
}

/// `XEN_DOMCTL_setvcpuaffinity`. Of the CPUs that are asked for the vCPU may use those that are there and are not another
/// domain's own; the caller learns which. Those that it is to prefer are remembered and told; the scheduler has no
/// preferences.
pub(super) fn set_affinity<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, request: &VcpuAffinity) -> Reply {
    let (id, flags) = (VcpuId(request.vcpu), flags_of(request));
    let events = target.events().clone();
    let link = find(events.vcpus(), request)?;
    let has_soft = flags.contains(VcpuAffinityFlags::SOFT);
    let soft = if has_soft { Some(read_cpus(call, &request.cpumap_soft)?) } else { None };
    if flags.contains(VcpuAffinityFlags::HARD) {
        let cpus = read_cpus(call, &request.cpumap_hard)?.intersection(target.pool(id));
        if cpus.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        link.affinity().store(cpus);
        call.platform.reschedule(target);
        write_cpus(call, &request.cpumap_hard, cpus)?;
    }
    if let Some(soft) = soft {
        link.soft_affinity().store(soft);
        // What that comes to.
        write_cpus(call, &request.cpumap_soft, soft.intersection(link.affinity().load()))?;
    }
    Ok(0)
}

/// `XEN_DOMCTL_getvcpuaffinity`.
pub(super) fn get_affinity<P: Platform>(call: &mut Call<'_, P>, target: &P::Target, request: &VcpuAffinity) -> Reply {
    let flags = flags_of(request);
    let link = find(target.events().vcpus(), request)?;
    let hard = link.affinity().load();
    let soft = link.soft_affinity().load().intersection(hard);
    if flags.contains(VcpuAffinityFlags::HARD) {
        write_cpus(call, &request.cpumap_hard, hard)?;
    }
    if flags.contains(VcpuAffinityFlags::SOFT) {
        write_cpus(call, &request.cpumap_soft, soft)?;
    }
    Ok(0)
}

fn flags_of(request: &VcpuAffinity) -> VcpuAffinityFlags {
    VcpuAffinityFlags::from_bits_retain(request.flags)
}

/// The vCPU that a request names.
///
/// # Errors
/// `EINVAL`: there is none, the request asks for nothing, or it has no place for what it asks for.
fn find<'a>(links: &'a [VcpuLink], request: &VcpuAffinity) -> Result<&'a VcpuLink, Errno> {
    let nowhere = |flag, map: &XenctlBitmap| flags_of(request).contains(flag) && map.bitmap == 0;
    let invalid = request.flags == 0
        || nowhere(VcpuAffinityFlags::HARD, &request.cpumap_hard)
        || nowhere(VcpuAffinityFlags::SOFT, &request.cpumap_soft);
    links.get(request.vcpu as usize).filter(|_| !invalid).ok_or(Errno::EINVAL)
}

/// Bytes of a bitmap, and how many of them can name CPUs.
///
/// # Errors
/// `EINVAL`: the bitmap is beyond [`MAX_BITS`].
fn lengths(map: &XenctlBitmap) -> Result<(usize, usize), Errno> {
    if map.nr_bits > MAX_BITS {
        return Err(Errno::EINVAL);
    }
    let bytes = map.nr_bits.div_ceil(u8::BITS) as usize;
    Ok((bytes, bytes.min(size_of::<u64>())))
}

/// The CPUs of a bitmap, without those that there can't be.
fn read_cpus<P: Platform>(call: &mut Call<'_, P>, map: &XenctlBitmap) -> Result<CpuSet, Otherwise> {
    let (_, used) = lengths(map)?;
    let mut bits = [0; size_of::<u64>()];
    call.platform.read_bytes(map.bitmap, &mut bits[..used])?;
    Ok(CpuSet::from_bits(u64::from_le_bytes(bits)).intersection(CpuSet::first(map.nr_bits)))
}

/// Writes a set of CPUs as far as there is room, and zeros behind it.
fn write_cpus<P: Platform>(call: &mut Call<'_, P>, map: &XenctlBitmap, cpus: CpuSet) -> Result<(), Otherwise> {
    let (bytes, used) = lengths(map)?;
    let mut image = [0; MAX_BITS as usize / 8];
    image[..used].copy_from_slice(&cpus.bits().to_le_bytes()[..used]);
    call.platform.write_bytes(map.bitmap, &image[..bytes])?;
    Ok(())
}
