//! `GNTTABOP_map_grant_ref`.

use alloc::sync::Arc;

use pv_abi::grant::{GnttabMapGrantRef, GrantMapFlags};

use super::{Call, Halt, Platform, place};
use crate::addr::DomainId;
use crate::grant::{Grants, Mapping, Pinned, Refusal, Uses, page_table_entry};
use crate::mm::error::{Refusal as Why, Refused};
use crate::mm::granted::{self, Granted};
use crate::mm::perform::Unfinished;

pub(super) fn map<P: Platform>(call: &mut Call<'_, P>, request: &mut GnttabMapGrantRef) -> Result<(), Halt> {
    let flags = GrantMapFlags::from_bits_retain(request.flags);
    if !flags.intersects(GrantMapFlags::HOST_MAP | GrantMapFlags::DEVICE_MAP) {
        return Err(Refusal::BadReference.into());
    }
    let granter = call.platform.grants_of(DomainId(request.dom)).ok_or(Refusal::BadDomain)?;
    let own = call.platform.grants().clone();
    let handle = own.new_handle(|| call.platform.has_memory_to_spare())?;
    match pin_and_map(call, granter, request, flags) {
        Ok(mapping) => {
            (request.handle, request.dev_bus_addr) = (handle.0, mapping.mfn.base().0);
            own.set_handle(handle, mapping);
            Ok(())
        }
        Err(halt) => {
            own.free_handle(handle);
            Err(halt)
        }
    }
}

fn pin_and_map<P: Platform>(
    call: &mut Call<'_, P>,
    granter: Arc<Grants>,
    request: &GnttabMapGrantRef,
    flags: GrantMapFlags,
) -> Result<Mapping, Halt> {
    let uses = Uses {
        host: flags.contains(GrantMapFlags::HOST_MAP),
        device: flags.contains(GrantMapFlags::DEVICE_MAP),
        writable: !flags.contains(GrantMapFlags::READONLY),
    };
    let pinned = granter.pin(call.platform.mmu().memory, request.gref, call.vcpu.domain, uses)?;
    match install(call, granter.domain, request, flags, uses, pinned) {
        Ok(()) => {
            let by_entry = flags.contains(GrantMapFlags::CONTAINS_PTE);
            Ok(Mapping { granter, gref: request.gref, mfn: pinned.mfn, uses, by_entry })
        }
        Err(halt) => {
            granter.unpin(call.platform.mmu().memory, request.gref, uses);
            Err(halt)
        }
    }
}

fn install<P: Platform>(
    call: &mut Call<'_, P>,
    owner: DomainId,
    request: &GnttabMapGrantRef,
    flags: GrantMapFlags,
    uses: Uses,
    Pinned { mfn, is_first }: Pinned,
) -> Result<(), Halt> {
    let host = if uses.host {
        let place = place(call, request.host_addr, flags.contains(GrantMapFlags::CONTAINS_PTE))?;
        Some((place, page_table_entry(mfn, flags)))
    } else {
        None
    };
    let granted = Granted { mfn, owner };
    let mapping = granted::Mapping { granted, writable: uses.writable, device: uses.device, host };
    call.memory(|op, _| op.map_granted(&mapping)).map_err(|unfinished| match unfinished {
        Unfinished::Refused(Refused { why: Why::NotOwned(_), entry: None }) if is_first => Refusal::BadFrame.into(),
        other => other.into(),
    })
}
