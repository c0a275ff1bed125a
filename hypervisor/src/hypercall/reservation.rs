//! `memory_op`: how much memory the domain has (`memory.h`, `struct xen_memory_reservation`).
//!
//! The answer is the number of extents done; fewer than asked for says that the next one failed. Where a restart goes on
//! is in the bits of the command word above the command.

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::memory::{
    MemoryReservation, XENMEM_DECREASE_RESERVATION, XENMEM_INCREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
};

use super::target::Other;
use super::{Call, Otherwise, PAGE_COST, Platform, Reply};
use crate::addr::{DomainId, Mfn, Pfn};
use crate::mm::error::Stop;
use crate::mm::operation::Operation;
use crate::mm::perform::{FramesLock, Unfinished};

/// Largest extent, as log2 of its frames: 2 MiB, as Xen allows unprivileged domains.
pub(super) const MAX_ORDER: u32 = 9;

/// Bits of the command word below the position of a restart.
const POSITION_SHIFT: u32 = 6;

/// `XENMEM_increase_reservation`, `XENMEM_decrease_reservation` and `XENMEM_populate_physmap`.
pub(super) fn change<P: Platform>(call: &mut Call<'_, P>, command: u32) -> Reply {
    let position = call.word(0) >> POSITION_SHIFT;
    // As in Xen, a request that makes no sense has no extents done, without an error code.
    let Ok(request) = call.read::<MemoryReservation>(call.word(1)) else { return Ok(0) };
    if request.extent_order > MAX_ORDER || request.nr_extents > u64::MAX >> (POSITION_SHIFT + MAX_ORDER) {
        return Ok(0);
    }
    if request.domid == DOMID_SELF || request.domid == call.vcpu.domain.0 {
        return extents(call, &mut None, command, &request, position);
    }
    let mut other = match call.other(DomainId(request.domid)) {
        Ok(other) => Some(other),
        // As in Xen: there is no such domain, so no extents are done.
        Err(why) if why == Errno::ESRCH.into() => return Ok(0),
        Err(why) => return Err(why),
    };
    let reply = extents(call, &mut other, command, &request, position);
    if let Some(other) = other {
        call.give_back(other);
    }
    reply
}

/// Carries out what is left of a request behind `position`, for another domain if there is one, else for the caller's.
fn extents<P: Platform>(
    call: &mut Call<'_, P>,
    other: &mut Option<Other<P>>,
    command: u32,
    request: &MemoryReservation,
    position: u64,
) -> Reply {
    // Frames, counted through all extents, so that a restart may come in the middle of one.
    let frames = request.nr_extents << request.extent_order;
    let mut at = position.min(frames);
    let steps = match command {
        XENMEM_DECREASE_RESERVATION => 1,
        _ => 1 << request.extent_order,
    };
    while at < frames {
        let step = match command {
            XENMEM_INCREASE_RESERVATION => add(call, other, request, at, false),
            XENMEM_POPULATE_PHYSMAP => add(call, other, request, at, true),
            _ => remove(call, other, request, at),
        };
        match step {
            Step::Done => at += steps,
            Step::Failed => break,
            Step::Again => return Err(restart(call, command, at)),
        }
    }
    // Tables that were pinned when they were given back are taken apart before the guest goes on.
    if memory(call, other, |op, _| op.drain()) == Err(Unfinished::Again) {
        return Err(restart(call, command, at));
    }
    Ok(at >> request.extent_order)
}

/// Carries out a step of the memory rules for the domain whose memory it is.
fn memory<P: Platform, T>(
    call: &mut Call<'_, P>,
    other: &mut Option<Other<P>>,
    step: impl FnMut(&mut Operation<'_, P::Tables>, &dyn FramesLock) -> Result<T, Stop>,
) -> Result<T, Unfinished> {
    match other {
        None => call.memory(step),
        Some(other) => other.memory(call.platform, &mut call.budget, step),
    }
}

fn restart<P: Platform>(call: &mut Call<'_, P>, command: u32, at: u64) -> Otherwise {
    call.again([at << POSITION_SHIFT | u64::from(command)])
}

enum Step {
    Done,
    Failed,
    Again,
}

/// Where the entry of the extent that frame `at` is in lies in the guest's array.
fn entry(request: &MemoryReservation, at: u64) -> u64 {
    request.extent_start.wrapping_add(8 * (at >> request.extent_order))
}

/// Adds one extent. With `placed` the guest says at which pfn it is to be known.
fn add<P: Platform>(
    call: &mut Call<'_, P>,
    other: &mut Option<Other<P>>,
    request: &MemoryReservation,
    at: u64,
    placed: bool,
) -> Step {
    let entry = entry(request, at);
    let Ok(order) = u8::try_from(request.extent_order) else { return Step::Failed };
    match call.budget.checked_sub(PAGE_COST << order.min(6)) {
        Some(left) => call.budget = left,
        None => return Step::Again,
    }
    let mut pfn = None;
    if placed {
        match call.read(entry) {
            Ok(place) => pfn = Some(Pfn(place)),
            Err(_) => return Step::Failed,
        }
    }
    let populated = match other {
        None => call.platform.populate(order, pfn),
        Some(other) => call.platform.populate_for(&other.target, order, pfn),
    };
    let Some(mfn) = populated else { return Step::Failed };
    if (placed || request.extent_start != 0) && call.write(entry, &mfn.0).is_err() {
        return Step::Failed;
    }
    Step::Done
}

/// Gives one frame back.
fn remove<P: Platform>(
    call: &mut Call<'_, P>,
    other: &mut Option<Other<P>>,
    request: &MemoryReservation,
    at: u64,
) -> Step {
    let in_extent = at & ((1 << request.extent_order) - 1);
    let Ok(first) = call.read::<u64>(entry(request, at)) else { return Step::Failed };
    let mfn = Mfn(first.wrapping_add(in_extent));
    match memory(call, other, |op, frames| frames.run(|frames| op.give_back(frames, mfn))) {
        Ok(()) => Step::Done,
        Err(Unfinished::Again) => Step::Again,
        Err(Unfinished::Refused(refused)) => {
            call.refuse("decrease_reservation", refused);
            Step::Failed
        }
    }
}
