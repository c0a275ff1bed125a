//! The operations on tables themselves: size, version, swapped entries.

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::grant::{
    GnttabGetStatusFrames, GnttabGetVersion, GnttabQuerySize, GnttabSetVersion, GnttabSetupTable, GnttabSwapGrantRef,
};

use super::{Call, Halt, Platform, Reply};
use crate::addr::{DomainId, GuestVa};
use crate::grant::Refusal;
use crate::hypercall::target::Target;

/// The one version that there is.
const VERSION: u32 = 1;

/// What a frame more costs of the budget.
const FRAME_COST: u32 = 64;

/// A domain whose table the caller may see: its own, or any if it is privileged.
fn visible<P: Platform>(call: &mut Call<'_, P>, named: u16) -> Result<P::Target, Refusal> {
    let id = if named == DOMID_SELF { call.vcpu.domain } else { DomainId(named) };
    let target = call.platform.target(id).filter(|target| !target.facts().dying).ok_or(Refusal::BadDomain)?;
    if id == call.vcpu.domain || call.platform.is_privileged() { Ok(target) } else { Err(Refusal::Denied) }
}

/// Grows a table if it is smaller than asked for, and lists its frames. Linux survives no failure, so there is one for
/// mistakes and lack of memory only.
pub(super) fn setup<P: Platform>(call: &mut Call<'_, P>, request: &mut GnttabSetupTable) -> Result<(), Halt> {
    if !GuestVa::are_bytes(request.frame_list, u64::from(request.nr_frames) * 8) {
        return Err(Halt::Code(Errno::EFAULT));
    }
    let target = visible(call, request.dom)?;
    let grants = target.grants();
    if request.nr_frames > grants.limits.frames {
        return Err(Refusal::General.into());
    }
    while grants.frames() < request.nr_frames {
        if call.budget == 0 {
            return Err(Halt::Again);
        }
        grow(call, &target)?;
        call.budget = call.budget.saturating_sub(FRAME_COST);
    }
    for number in 0..request.nr_frames {
        let frame = grants.frame(number).ok_or(Refusal::General)?;
        let at = request.frame_list.wrapping_add(u64::from(number) * 8);
        call.write(at, &frame.0).map_err(|_| Refusal::BadAddress)?;
    }
    Ok(())
}

/// Adds a frame to a domain's table, unless another CPU is faster.
fn grow<P: Platform>(call: &mut Call<'_, P>, target: &P::Target) -> Result<(), Refusal> {
    let grants = target.grants();
    let number = grants.frames();
    if !call.platform.has_memory_to_spare() {
        return Err(Refusal::General);
    }
    let mfn = call.platform.share_frame(target).ok_or(Refusal::General)?;
    if grants.add_frame(number, mfn) {
        return Ok(());
    }
    let put = call.memory(|op, _| {
        op.put_writable(mfn);
        Ok(())
    });
    debug_assert!(put.is_ok(), "nothing is refused");
    // Another vCPU was faster and has done it; else there is no memory, or the domain ends.
    if grants.frames() > number { Ok(()) } else { Err(Refusal::General) }
}

pub(super) fn query_size<P: Platform>(call: &mut Call<'_, P>, request: &mut GnttabQuerySize) -> Result<(), Halt> {
    let target = visible(call, request.dom)?;
    (request.nr_frames, request.max_nr_frames) = (target.grants().frames(), target.grants().limits.frames);
    Ok(())
}

/// Version 1 has no status frames.
pub(super) fn get_status_frames<P: Platform>(
    call: &mut Call<'_, P>,
    request: &mut GnttabGetStatusFrames,
) -> Result<(), Halt> {
    visible(call, request.dom)?;
    if request.nr_frames == 0 { Ok(()) } else { Err(Refusal::General.into()) }
}

pub(super) fn swap<P: Platform>(call: &mut Call<'_, P>, request: &mut GnttabSwapGrantRef) -> Result<(), Halt> {
    Ok(call.platform.grants().swap(call.platform.mmu().memory, request.ref_a, request.ref_b)?)
}

/// # Errors
/// `ENOSYS` for version 2, as Xen answers a domain that is limited to version 1.
pub(super) fn set_version<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let address = call.word(1);
    let GnttabSetVersion { version } = call.read(address)?;
    call.write(address, &GnttabSetVersion { version: VERSION })?;
    match version {
        VERSION => Ok(0),
        2 => Err(Errno::ENOSYS.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

pub(super) fn get_version<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let address = call.word(1);
    let request: GnttabGetVersion = call.read(address)?;
    match visible(call, request.dom) {
        Ok(_) => {}
        Err(Refusal::BadDomain) => return Err(Errno::ESRCH.into()),
        Err(_) => return Err(Errno::EPERM.into()),
    }
    call.write(address, &GnttabGetVersion { version: VERSION, ..request })?;
    Ok(0)
}
