//! `mmu_update` and `update_va_mapping`: changes of single page-table entries (`xen.h`).

use core::slice::Iter;

use pv_abi::domid::{DOMID_IO, DOMID_SELF, DOMID_XEN};
use pv_abi::errno::Errno;
use pv_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate,
    UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_LOCAL, UVMF_TLB_FLUSH,
};

use super::batch::{self, Halt};
use super::flush::{Scope, Translations};
use super::{Call, Platform, Reply};
use crate::addr::{DomainId, GuestVa, MachineAddr, Mfn};
use crate::mm::devices::NO_RAM;
use crate::mm::error::{Refusal, Stop};
use crate::mm::m2p;
use crate::mm::perform::Unfinished;
use crate::mm::update::{Change, Slot, Update};

/// `(struct mmu_update *list, unsigned int count, unsigned int *done, unsigned int foreigndom)`.
pub(super) fn mmu_update<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let [pages, pages_high, tables, tables_high] = call.u32(3).to_le_bytes();
    let owner = page_owner(call, u16::from_le_bytes([pages, pages_high]))?;
    let tables = u16::from_le_bytes([tables, tables_high]);
    if let Some(tables) = tables.checked_sub(1)
        && tables != call.vcpu.domain.0
    {
        // Tables of another domain: nobody may, which is more than Xen refuses.
        call.platform.page_owner(DomainId(tables))?;
        return Err(Errno::EPERM.into());
    }
    let alone = |call: &mut Call<'_, P>, request| update(call, request, owner);
    batch::run(call, "mmu_update", alone, |call, requests| update_list(call, requests, owner))
}

/// Whose pages a call's L1 entries may map: the domain's own, or another's that it names and has privilege over, or what
/// the hypervisor [shows](crate::mm::frame::FrameTable::show_read_only) the control domain.
///
/// # Errors
/// `ESRCH`, `EPERM`.
#[inline]
pub(super) fn page_owner<P: Platform>(call: &Call<'_, P>, named: u16) -> Result<DomainId, Errno> {
    if named == DOMID_SELF { Ok(call.vcpu.domain) } else { other_owner(call, named) }
}

#[inline(never)]
fn other_owner<P: Platform>(call: &Call<'_, P>, named: u16) -> Result<DomainId, Errno> {
    match named {
        // As in Xen: a caller that means itself says `DOMID_SELF`.
        own if own == call.vcpu.domain.0 => Err(Errno::ESRCH),
        DOMID_IO if call.platform.hardware().is_some() => Ok(NO_RAM),
        DOMID_IO => Err(Errno::EPERM),
        DOMID_XEN if call.platform.is_privileged() => Ok(DomainId::HYPERVISOR),
        DOMID_XEN => Err(Errno::EPERM),
        other => call.platform.page_owner(DomainId(other)),
    }
}

fn update<P: Platform>(call: &mut Call<'_, P>, request: MmuUpdate, owner: DomainId) -> Result<(), Halt> {
    match entry_update(request) {
        Some(update) => Ok(call.memory(|op, _| op.update_one(update, owner))?),
        None => other_update(call, request, owner),
    }
}

fn update_list<P: Platform>(
    call: &mut Call<'_, P>,
    requests: &mut Iter<'_, MmuUpdate>,
    owner: DomainId,
) -> Result<(), Halt> {
    loop {
        call.memory(|op, _| op.update_list(requests, entry_update, owner))?;
        let Some(&request) = requests.as_slice().first() else { return Ok(()) };
        other_update(call, request, owner)?;
        requests.next();
    }
}

/// Whatever a request is if not a change of an entry.
#[inline(never)]
fn other_update<P: Platform>(call: &mut Call<'_, P>, request: MmuUpdate, owner: DomainId) -> Result<(), Halt> {
    call.spend()?;
    match request.ptr & COMMAND {
        MMU_MACHPHYS_UPDATE => set_machine_to_phys(call, MachineAddr(request.ptr).frame(), request.val, owner),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// Entries are 8-byte aligned, so all three bits below are the command.
const COMMAND: u64 = 7;

/// The change of an entry that is asked for; `None` if something else is.
#[inline]
fn entry_update(MmuUpdate { ptr, val }: MmuUpdate) -> Option<Update> {
    let change = match ptr & COMMAND {
        // There are no translated guests, so that these two are the same.
        MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_NO_TRANSLATE => Change::Set,
        MMU_PT_UPDATE_PRESERVE_AD => Change::KeepAccessedDirty,
        _ => return None,
    };
    let slot = Slot::at(MachineAddr(ptr & !COMMAND)).ok()?;
    Some(Update { slot, value: val, change })
}

fn set_machine_to_phys<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn, value: u64, owner: DomainId) -> Result<(), Halt> {
    call.memory(|op, _| {
        op.reference(mfn, owner)?;
        let own = m2p::guest_set(op.memory(), &op.frames(), owner, mfn, value);
        op.put(mfn);
        if own { Ok(()) } else { Err(Stop::refuse(Refusal::NotOwned(mfn))) }
    })?;
    Ok(())
}

/// `(unsigned long va, uint64_t val, unsigned long flags)`.
pub(super) fn update_va_mapping<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let owner = call.vcpu.domain;
    set_mapping(call, owner)
}

/// `(unsigned long va, uint64_t val, unsigned long flags, domid_t domid)`.
pub(super) fn update_va_mapping_otherdomain<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let [low, high, ..] = call.word(3).to_le_bytes();
    let owner = page_owner(call, u16::from_le_bytes([low, high]))?;
    set_mapping(call, owner)
}

#[inline(never)]
fn set_mapping<P: Platform>(call: &mut Call<'_, P>, owner: DomainId) -> Reply {
    let [va, value, flags, ..] = *call.args;
    let address = GuestVa::new(va).ok_or(Errno::EINVAL)?;
    let root = call.vcpu.roots.kernel.ok_or(Errno::EINVAL)?;
    match call.memory(move |op, _| op.update_mapping(root, address, value, owner)) {
        Ok(()) => {}
        Err(Unfinished::Again) => return Err(call.again([])),
        Err(Unfinished::Refused(refused)) => return Err(call.refuse("update_va_mapping", refused).into()),
    }
    if flags == UVMF_INVLPG | UVMF_LOCAL {
        // What kernels ask for most.
        call.platform.flush_address(address);
        return Ok(0);
    }
    flush(call, va, flags)
}

#[inline(never)]
fn flush<P: Platform>(call: &mut Call<'_, P>, va: u64, flags: u64) -> Reply {
    let which = match flags & UVMF_FLUSHTYPE_MASK {
        UVMF_TLB_FLUSH => Translations::All,
        UVMF_INVLPG => Translations::Of(va),
        _ => return Ok(0),
    };
    let scope = match flags & !UVMF_FLUSHTYPE_MASK {
        UVMF_LOCAL => Scope::Local,
        UVMF_ALL => Scope::All,
        bitmap => Scope::Vcpus(call.read(bitmap)?),
    };
    call.flush(which, scope);
    Ok(0)
}
