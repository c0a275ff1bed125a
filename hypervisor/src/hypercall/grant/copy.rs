//! `GNTTABOP_copy`.

use alloc::sync::Arc;

use pv_abi::domid::DOMID_SELF;
use pv_abi::grant::{GnttabCopy, GnttabCopyPtr, GrantCopyFlags};

use super::{Call, Halt, Platform, grants_of};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::grant::{GrantMemory, Grants, Refusal, Uses};
use crate::mm::error::{Refusal as Why, Refused};
use crate::mm::granted::Granted;
use crate::mm::perform::Unfinished;

/// Bytes that cost as much as looking at a page-table entry.
const BYTES_PER_UNIT: u32 = 256;

/// An end of a copy, with its grant in use if it is one.
struct End {
    granted: Granted,
    grant: Option<(Arc<Grants>, u32, Uses)>,
}

impl End {
    /// The grant is not in use any more.
    fn unpin<P: Platform>(self, call: &Call<'_, P>) {
        if let Some((granter, gref, uses)) = self.grant {
            granter.unpin(call.platform.mmu().memory, gref, uses);
        }
    }
}

pub(super) fn copy<P: Platform>(call: &mut Call<'_, P>, request: &mut GnttabCopy) -> Result<(), Halt> {
    let flags = GrantCopyFlags::from_bits_retain(request.flags);
    let by_source = flags.contains(GrantCopyFlags::SOURCE_GREF);
    let by_dest = flags.contains(GrantCopyFlags::DEST_GREF);
    let granter = domain(call, &request.source, by_source)?;
    let receiver = domain(call, &request.dest, by_dest)?;
    let source = begin(call, granter, &request.source, by_source, false)?;
    let result = match begin(call, receiver, &request.dest, by_dest, true) {
        Ok(dest) => {
            let result = transfer(call, request, source.granted, dest.granted);
            dest.unpin(call);
            result
        }
        Err(refusal) => Err(refusal.into()),
    };
    source.unpin(call);
    call.budget = call.budget.saturating_sub(u32::from(request.len) / BYTES_PER_UNIT);
    result
}

/// Whose the frame or the grant is. Without a grant a domain names frames of its own.
fn domain<P: Platform>(call: &Call<'_, P>, end: &GnttabCopyPtr, by_grant: bool) -> Result<Arc<Grants>, Refusal> {
    if !by_grant && end.domid != DOMID_SELF {
        return Err(Refusal::Denied);
    }
    grants_of(call, end.domid)
}

fn begin<P: Platform>(
    call: &Call<'_, P>,
    owner: Arc<Grants>,
    end: &GnttabCopyPtr,
    by_grant: bool,
    writable: bool,
) -> Result<End, Refusal> {
    let id = owner.domain;
    if !by_grant {
        return Ok(End { granted: Granted { mfn: Mfn(end.u), owner: id }, grant: None });
    }
    let uses = Uses { host: true, device: false, writable };
    let pinned = owner.pin(call.platform.mmu().memory, end.gref(), call.vcpu.domain, uses)?;
    Ok(End { granted: Granted { mfn: pinned.mfn, owner: id }, grant: Some((owner, end.gref(), uses)) })
}

fn transfer<P: Platform>(call: &mut Call<'_, P>, request: &GnttabCopy, from: Granted, to: Granted) -> Result<(), Halt> {
    let len = usize::from(request.len);
    let (from_offset, to_offset) = (usize::from(request.source.offset), usize::from(request.dest.offset));
    let copied = call.memory(|op, _| {
        op.copy_granted(from, to, |memory| {
            // Only now, so that of several mistakes the guest is told of the one that Xen tells it of.
            if from_offset + len > PAGE_SIZE || to_offset + len > PAGE_SIZE {
                return Err(Refusal::BadCopy);
            }
            memory.copy(to.mfn, to_offset, from.mfn, from_offset, len);
            Ok(())
        })
    });
    match copied {
        Ok(result) => Ok(result?),
        Err(Unfinished::Refused(Refused { why: Why::NotOwned(_), .. })) => Err(Refusal::BadFrame.into()),
        Err(other) => Err(other.into()),
    }
}
