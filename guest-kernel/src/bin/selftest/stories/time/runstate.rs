//! How long vCPUs ran, waited and slept.

use crate::check::{NON_CANONICAL, Told, equal, holds, refused};
use crate::stories::event::{refusal, start};
use crate::stories::mmu::ground::Page;
use guest_kernel::{hypercall, time, vcpu};
use pv_abi::errno::Errno;
use pv_abi::vcpu::{RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNING, XEN_RUNSTATE_UPDATE};

const MILLISECOND: u64 = 1_000_000;

/// The times of all states together grow as time does; sleep counts as such.
pub fn sums() -> Told {
    let outer = time::now().unwrap_or(0);
    let first = hypercall::runstate(0).map_err(refusal)?;
    let start = time::now().unwrap_or(0);
    equal("state", first.state, RUNSTATE_RUNNING)?;
    holds("entered before now", first.state_entry_time <= start)?;
    for _ in 0..10 {
        hypercall::poll(&[], time::now().unwrap_or(0) + 10 * MILLISECOND).map_err(refusal)?;
    }
    let inner = time::now().unwrap_or(0) - start;
    let second = hypercall::runstate(0).map_err(refusal)?;
    let outer = time::now().unwrap_or(0) - outer;

    let sum = |times: [u64; 4]| times.iter().sum::<u64>();
    let counted = sum(second.time) - sum(first.time);
    let slop = MILLISECOND;
    holds("all states together", inner <= counted + slop && counted <= outer + slop)?;
    let blocked = second.time[RUNSTATE_BLOCKED as usize] - first.time[RUNSTATE_BLOCKED as usize];
    // Not all ten: a host that is busy lets the time pass before the sleep.
    holds("sleep", blocked >= 10 * MILLISECOND)?;
    holds("each grows", first.time.iter().zip(second.time).all(|(before, after)| *before <= after))
}

/// Other vCPUs' states.
pub fn others() -> Told {
    refused("nobody's", hypercall::runstate(vcpu::count()).map(|_| 0), Errno::ENOENT)?;
    if vcpu::count() < 2 {
        return Ok(());
    }
    equal("one that is down", hypercall::runstate(1).map(|info| info.state), Ok(RUNSTATE_OFFLINE))?;
    start(2)?;
    crate::stories::smp::wait_until("it sleeps", || {
        hypercall::runstate(1).is_ok_and(|info| info.state == RUNSTATE_BLOCKED)
    })
}

/// An area that is registered is kept up to date.
pub fn area() -> Told {
    let page = Page::new();
    // SAFETY: the page is the story's, for good.
    let register = |address| unsafe { hypercall::register_runstate_area(0, address) };
    refused("off the map", register(NON_CANONICAL), Errno::EFAULT)?;
    equal("register", register(page.address), Ok(0))?;
    equal("state", page.read(0), RUNSTATE_RUNNING.into())?;
    let slept = |page: Page| page.read(2 + RUNSTATE_BLOCKED as usize);
    let before = slept(page);
    for _ in 0..10 {
        hypercall::poll(&[], time::now().unwrap_or(0) + 5 * MILLISECOND).map_err(refusal)?;
    }
    // Not all ten: a host that is busy lets the time pass before the sleep.
    holds("sleep", slept(page) - before >= 5 * MILLISECOND)?;
    let info = hypercall::runstate(0).map_err(refusal)?;
    equal("as the call says", slept(page), info.time[RUNSTATE_BLOCKED as usize])?;
    equal("entry time", page.read(1) & !XEN_RUNSTATE_UPDATE, info.state_entry_time)?;
    equal("state", page.read(0), RUNSTATE_RUNNING.into())
}
