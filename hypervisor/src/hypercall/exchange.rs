//! `memory_op(XENMEM_exchange)`: frames for others, for instance contiguous ones (`memory.h`).
//!
//! Extents are exchanged in groups of equal size on both sides, one group wholly or not at all. How many input extents
//! are done stands in the guest's own structure; the restart reads it there. Each element of both arrays is reached by a
//! checked copy of its own, wherever that number leads (XSA-212).

use alloc::vec::Vec;

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::memory::MemoryExchange;

use super::batch::Halt;
use super::reservation::MAX_ORDER;
use super::{Call, PAGE_COST, Platform, Reply};
use crate::addr::{DomainId, Mfn, Pfn};
use crate::mm::perform::perform;

const NR_EXCHANGED: u64 = core::mem::offset_of!(MemoryExchange, nr_exchanged) as u64;

/// A request, and what goes together.
struct Exchange {
    request: MemoryExchange,
    /// Extents of a group on either side.
    inputs: u64,
    outputs: u64,
}

impl Exchange {
    /// What a group costs, in units of the budget of a call.
    fn cost(&self) -> u32 {
        let frames = u32::try_from(self.inputs << self.request.input.extent_order).unwrap_or(u32::MAX);
        frames.saturating_mul(PAGE_COST)
    }
}

/// `(struct xen_memory_exchange *)`, behind the command word.
pub(super) fn exchange<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let address = call.word(1);
    let request = call.read(address)?;
    let exchange = check(call, request)?;
    let mut done = exchange.request.nr_exchanged;
    while done < exchange.request.input.nr_extents {
        match group(call, &exchange, done) {
            Ok(()) => {}
            Err(Halt::Again) => return Err(call.again([])),
            Err(Halt::Code(errno)) => return Err(errno.into()),
            Err(Halt::Refused(refused)) => return Err(call.refuse("memory exchange", refused).into()),
        }
        // Then the next group waits until interrupts had their turn.
        call.budget = call.budget.saturating_sub(exchange.cost());
        done += exchange.inputs;
        call.write(address.wrapping_add(NR_EXCHANGED), &done)?;
    }
    Ok(0)
}

fn check<P: Platform>(call: &Call<'_, P>, request: MemoryExchange) -> Result<Exchange, Errno> {
    let MemoryExchange { input, output, nr_exchanged } = request;
    if input.extent_order > MAX_ORDER || output.extent_order > MAX_ORDER {
        return Err(Errno::EPERM);
    }
    let frames = |extents: u64, order: u32| extents.checked_mul(1 << order);
    let balanced = frames(input.nr_extents, input.extent_order)
        .is_some_and(|given| frames(output.nr_extents, output.extent_order) == Some(given));
    let inputs = 1 << output.extent_order.saturating_sub(input.extent_order);
    let outputs = 1 << input.extent_order.saturating_sub(output.extent_order);
    if !balanced
        || input.domid != output.domid
        || nr_exchanged > input.nr_extents
        || !nr_exchanged.is_multiple_of(inputs)
        || !input.nr_extents.is_multiple_of(inputs)
    {
        return Err(Errno::EINVAL);
    }
    if input.domid != DOMID_SELF && input.domid != call.vcpu.domain.0 {
        call.platform.page_owner(DomainId(input.domid))?;
        return Err(Errno::EPERM);
    }
    Ok(Exchange { request, inputs, outputs })
}

/// Exchanges the group whose input extents start at `first`.
fn group<P: Platform>(call: &mut Call<'_, P>, exchange: &Exchange, first: u64) -> Result<(), Halt> {
    let Exchange { request: MemoryExchange { input, output, .. }, inputs, outputs } = *exchange;
    let mut taken = list_for(inputs << input.extent_order)?;
    let mut given = list_for(outputs)?;
    let result = take_inputs(call, exchange, first, &mut taken)
        .and_then(|()| allocate_outputs(call, exchange, first / inputs * outputs, &mut given));
    if let Err(halt) = result {
        undo(call, &taken, output.extent_order, &given);
        return Err(halt);
    }
    taken.into_iter().for_each(|mfn| call.platform.free_reclaimed(mfn));
    let first_output = first / inputs * outputs;
    for (index, &mfn) in (first_output..).zip(&given) {
        call.write(element(output.extent_start, index), &mfn.0).map_err(|_| Errno::EFAULT)?;
    }
    Ok(())
}

/// Where an element of one of the arrays is. Any number may come from the guest: the copy checks where it leads.
const fn element(start: u64, index: u64) -> u64 {
    start.wrapping_add(index.wrapping_mul(8))
}

/// Room for so many frames of one group: 512 at most.
fn list_for(count: u64) -> Result<Vec<Mfn>, Halt> {
    let mut list = Vec::new();
    let count = usize::try_from(count).map_err(|_| Errno::ENOMEM)?;
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    Ok(list)
}

/// Takes the group's frames from the domain, which must not use them for anything.
fn take_inputs<P: Platform>(
    call: &mut Call<'_, P>,
    exchange: &Exchange,
    first: u64,
    taken: &mut Vec<Mfn>,
) -> Result<(), Halt> {
    let input = exchange.request.input;
    for extent in first..first + exchange.inputs {
        let start: u64 = call.read(element(input.extent_start, extent)).map_err(|_| Errno::EFAULT)?;
        for n in 0..1 << input.extent_order {
            let mfn = Mfn(start.wrapping_add(n));
            call.memory(|op, frames| frames.run(|frames| op.reclaim(frames, mfn)))?;
            taken.push(mfn);
        }
    }
    Ok(())
}

/// Gives the domain the group's new extents, of which `first` is the first.
fn allocate_outputs<P: Platform>(
    call: &mut Call<'_, P>,
    exchange: &Exchange,
    first: u64,
    given: &mut Vec<Mfn>,
) -> Result<(), Halt> {
    let output = exchange.request.output;
    let order = u8::try_from(output.extent_order).map_err(|_| Errno::EINVAL)?;
    for extent in first..first + exchange.outputs {
        let place: u64 = call.read(element(output.extent_start, extent)).map_err(|_| Errno::EFAULT)?;
        given.push(call.platform.populate(order, Some(Pfn(place))).ok_or(Errno::ENOMEM)?);
    }
    Ok(())
}

/// Puts back what was taken, with its number, and gives up what was given.
fn undo<P: Platform>(call: &mut Call<'_, P>, taken: &[Mfn], order: u32, given: &[Mfn]) {
    for mfn in given.iter().flat_map(|block| (0..1 << order).map(|n| block.offset(n))) {
        // Another vCPU may have guessed its number and used it, or given it back: then it stays where it is.
        let mut budget = u32::MAX;
        let reclaimed = perform(call.platform, &mut call.vcpu.pending, &mut budget, |op, frames| {
            frames.run(|frames| op.reclaim(frames, mfn))
        });
        if reclaimed.is_ok() {
            call.platform.free_reclaimed(mfn);
        }
    }
    let table = call.platform.mmu().frames;
    for &mfn in taken {
        call.platform.frames().run(|frames| frames.restore(&table, mfn));
    }
}
