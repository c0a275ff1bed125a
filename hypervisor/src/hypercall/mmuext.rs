//! `mmuext_op`: pins, roots, flushes, the LDT, whole pages (`xen.h`).

use pv_abi::errno::Errno;
use pv_abi::mmu::{
    MMU_UPDATE_PREEMPTED, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_FLUSH_CACHE, MMUEXT_FLUSH_CACHE_GLOBAL,
    MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_LOCAL, MMUEXT_INVLPG_MULTI, MMUEXT_MARK_SUPER, MMUEXT_NEW_BASEPTR,
    MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE,
    MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_TLB_FLUSH_MULTI, MMUEXT_UNMARK_SUPER,
    MMUEXT_UNPIN_TABLE, MmuextOp,
};
use pv_abi::trap::VMASST_TYPE_M2P_STRICT;

use super::batch::{self, Halt};
use super::descriptors::drop_ldt_pages;
use super::flush::{Scope, Translations};
use super::mmu::page_owner;
use super::target::Other;
use super::{Call, PAGE_COST, Platform, Reply};
use crate::addr::{DomainId, Mfn, PAGE_SIZE};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::grant::GrantMemory;
use crate::mm::granted::Granted;
use crate::mm::perform::{Effects, Unfinished, perform};
use crate::mm::root::OldRoot;
use crate::mm::state::Level;

/// `(struct mmuext_op *list, unsigned int count, unsigned int *done, unsigned int foreigndom)`.
///
/// With privilege over another domain, a caller that names it pins and unpins that domain's tables, and clears and copies
/// its pages. All else is about the caller alone.
pub(super) fn mmuext_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let [low, high, ..] = call.u32(3).to_le_bytes();
    let owner = page_owner(call, u16::from_le_bytes([low, high]))?;
    if owner != call.vcpu.domain {
        return of_other(call, owner);
    }
    batch::run(call, "mmuext_op", one, |call, requests| {
        while let Some(&request) = requests.as_slice().first() {
            one(call, request)?;
            requests.next();
        }
        Ok(())
    })
}

/// A list of operations about another domain's memory.
#[inline(never)]
fn of_other<P: Platform>(call: &mut Call<'_, P>, owner: DomainId) -> Reply {
    let mut other = call.other(owner)?;
    let mut one = |call: &mut Call<'_, P>, request: MmuextOp| {
        call.spend()?;
        let mfn = Mfn(request.arg1);
        match request.cmd {
            MMUEXT_PIN_L1_TABLE => pin_other(call, &mut other, mfn, Level::L1),
            MMUEXT_PIN_L2_TABLE => pin_other(call, &mut other, mfn, Level::L2),
            MMUEXT_PIN_L3_TABLE => pin_other(call, &mut other, mfn, Level::L3),
            MMUEXT_PIN_L4_TABLE => pin_other(call, &mut other, mfn, Level::L4),
            MMUEXT_UNPIN_TABLE => Ok(other.memory(call.platform, &mut call.budget, |op, _| op.unpin(mfn))?),
            MMUEXT_CLEAR_PAGE => clear_page(call, owner, mfn),
            MMUEXT_COPY_PAGE => copy_page(call, owner, mfn, Mfn(request.arg2)),
            _ => Err(Errno::EPERM.into()),
        }
    };
    let reply = batch::list(call, "mmuext_op", &mut |call, requests| {
        while let Some(&request) = requests.as_slice().first() {
            one(call, request)?;
            requests.next();
        }
        Ok(())
    });
    // Tables that were unpinned are taken apart before the caller goes on: a restart finds nothing left on the list.
    let drained = other.memory(call.platform, &mut call.budget, |op, _| op.drain());
    call.give_back(other);
    match reply {
        Ok(_) if drained == Err(Unfinished::Again) => Err(call.again([call.word(0), MMU_UPDATE_PREEMPTED.into()])),
        reply => reply,
    }
}

fn pin_other<P: Platform>(call: &mut Call<'_, P>, other: &mut Other<P>, mfn: Mfn, level: Level) -> Result<(), Halt> {
    Ok(other.memory(call.platform, &mut call.budget, |op, _| op.pin(mfn, level))?)
}

fn one<P: Platform>(call: &mut Call<'_, P>, request: MmuextOp) -> Result<(), Halt> {
    call.spend()?;
    let MmuextOp { arg1, arg2, .. } = request;
    let (mfn, own) = (Mfn(arg1), call.vcpu.domain);
    match request.cmd {
        MMUEXT_PIN_L1_TABLE => pin(call, mfn, Level::L1),
        MMUEXT_PIN_L2_TABLE => pin(call, mfn, Level::L2),
        MMUEXT_PIN_L3_TABLE => pin(call, mfn, Level::L3),
        MMUEXT_PIN_L4_TABLE => pin(call, mfn, Level::L4),
        MMUEXT_UNPIN_TABLE => unpin(call, mfn),
        MMUEXT_NEW_BASEPTR => load_root(call, mfn),
        MMUEXT_NEW_USER_BASEPTR => new_user_root(call, mfn),
        MMUEXT_TLB_FLUSH_LOCAL => flush(call, Translations::All, Scope::Local),
        MMUEXT_INVLPG_LOCAL => flush(call, Translations::Of(arg1), Scope::Local),
        MMUEXT_TLB_FLUSH_MULTI => flush_some(call, Translations::All, arg2),
        MMUEXT_INVLPG_MULTI => flush_some(call, Translations::Of(arg1), arg2),
        MMUEXT_TLB_FLUSH_ALL => flush(call, Translations::All, Scope::All),
        MMUEXT_INVLPG_ALL => flush(call, Translations::Of(arg1), Scope::All),
        // For domains with devices that don't snoop caches.
        MMUEXT_FLUSH_CACHE | MMUEXT_FLUSH_CACHE_GLOBAL => Err(Errno::EACCES.into()),
        MMUEXT_SET_LDT => call.set_ldt(arg1, arg2),
        MMUEXT_CLEAR_PAGE => clear_page(call, own, mfn),
        MMUEXT_COPY_PAGE => copy_page(call, own, mfn, Mfn(arg2)),
        MMUEXT_MARK_SUPER | MMUEXT_UNMARK_SUPER => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

#[inline(never)]
fn pin<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn, level: Level) -> Result<(), Halt> {
    Ok(call.memory(|op, _| op.pin(mfn, level))?)
}

#[inline(never)]
fn unpin<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn) -> Result<(), Halt> {
    Ok(call.memory(|op, _| op.unpin(mfn))?)
}

#[inline(never)]
fn load_root<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn) -> Result<(), Halt> {
    Ok(new_kernel_root(call.vcpu, call.platform, &mut call.budget, mfn)?)
}

/// Makes `root` the page tables of kernel mode and loads them, as `MMUEXT_NEW_BASEPTR` and a write to CR3 do. The vCPU
/// is in kernel mode.
///
/// # Errors
/// Nothing has changed then.
pub fn new_kernel_root<P: Platform>(
    vcpu: &mut Vcpu,
    platform: &mut P,
    budget: &mut u32,
    root: Mfn,
) -> Result<(), Unfinished> {
    let hide = hides_m2p(vcpu);
    let Vcpu { pending, roots, .. } = vcpu;
    let old = perform(platform, pending, budget, |op, _| op.set_root(roots, Mode::Kernel, Some(root), hide))?;
    if old.is_some() {
        // Another address space has another LDT at the same address.
        drop_ldt_pages(vcpu, platform, budget);
    }
    platform.load_root(vcpu);
    drop_root(vcpu, platform, budget, old)
}

#[inline(never)]
fn new_user_root<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn) -> Result<(), Halt> {
    let root = (mfn != Mfn(0)).then_some(mfn);
    let Call { vcpu, platform, budget, .. } = call;
    // No CPU has it loaded: the vCPU is in kernel mode.
    Ok(replace_root(vcpu, *platform, budget, Mode::User, root)?)
}

/// Gives a vCPU another root for a mode, or none; no CPU has the old one loaded for it.
pub(super) fn replace_root<E: Effects>(
    vcpu: &mut Vcpu,
    domain: &mut E,
    budget: &mut u32,
    mode: Mode,
    root: Option<Mfn>,
) -> Result<(), Unfinished> {
    let hide = hides_m2p(vcpu);
    let Vcpu { pending, roots, .. } = vcpu;
    let old = perform(domain, pending, budget, |op, _| op.set_root(roots, mode, root, hide))?;
    drop_root(vcpu, domain, budget, old)
}

fn drop_root<E: Effects>(
    vcpu: &mut Vcpu,
    domain: &mut E,
    budget: &mut u32,
    mut old: Option<OldRoot>,
) -> Result<(), Unfinished> {
    perform(domain, &mut vcpu.pending, budget, |op, _| {
        if let Some(old) = old.take() {
            op.drop_root(old);
        }
        Ok(())
    })
}

fn hides_m2p(vcpu: &Vcpu) -> bool {
    vcpu.assists.has(VMASST_TYPE_M2P_STRICT)
}

#[inline]
fn flush<P: Platform>(call: &mut Call<'_, P>, which: Translations, scope: Scope) -> Result<(), Halt> {
    /// To interrupt other CPUs and to wait for them, in units of the budget of a call.
    const REMOTE_COST: u32 = 64;
    if !matches!(scope, Scope::Local) {
        call.budget = call.budget.saturating_sub(REMOTE_COST);
    }
    call.flush(which, scope);
    Ok(())
}

#[inline(never)]
fn flush_some<P: Platform>(call: &mut Call<'_, P>, which: Translations, bitmap: u64) -> Result<(), Halt> {
    let vcpus = call.read(bitmap).map_err(|_| Errno::EINVAL)?;
    flush(call, which, Scope::Vcpus(vcpus))
}

/// Clears a page of a domain that could be mapped writable.
#[inline(never)]
fn clear_page<P: Platform>(call: &mut Call<'_, P>, owner: DomainId, mfn: Mfn) -> Result<(), Halt> {
    call.memory(|op, _| op.take_writable(mfn, owner))?;
    call.platform.clear_page(mfn);
    call.budget = call.budget.saturating_sub(PAGE_COST);
    call.memory(|op, _| {
        op.put_writable(mfn);
        Ok(())
    })?;
    Ok(())
}

/// Copies a page of a domain to another of its pages, which could be mapped writable.
#[inline(never)]
fn copy_page<P: Platform>(call: &mut Call<'_, P>, owner: DomainId, to: Mfn, from: Mfn) -> Result<(), Halt> {
    let [to, from] = [to, from].map(|mfn| Granted { mfn, owner });
    call.memory(|op, _| op.copy_granted(from, to, |memory| memory.copy(to.mfn, 0, from.mfn, 0, PAGE_SIZE)))?;
    call.budget = call.budget.saturating_sub(PAGE_COST);
    Ok(())
}
