//! `SCHEDOP_poll`: sleeping until a port has an event, masked or not.

use super::{COUNT, count, refusal, start};
use crate::check::{Told, call, equal, holds, reads, refused};
use crate::stories::smp::wait_until;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use guest_kernel::{event, hypercall, smp, time};
use pv_abi::errno::Errno;
use pv_abi::hypercall::SCHED_OP;
use pv_abi::sched::{SCHEDOP_POLL, SchedPoll};

const MILLISECOND: u64 = 1_000_000;

fn now() -> u64 {
    time::now().unwrap_or(0)
}

/// A port that has an event ends the poll at once, though masked, and stays masked and pending.
pub fn pending() -> Told {
    start(1)?;
    let ports: Vec<u32> = (0..128).map_while(|_| hypercall::bind_ipi(0).ok()).collect();
    equal("ports", ports.len(), 128)?;
    let last = ports[127];
    equal("send", hypercall::send(last), Ok(()))?;
    equal("poll without a limit", hypercall::poll(&ports, 0), Ok(0))?;
    holds("masked and pending", event::is_masked(last) && event::is_pending(last))?;
    holds("taken", event::clear_pending(last))?;
    let start = now();
    equal("poll", hypercall::poll(&ports, start + 20 * MILLISECOND), Ok(0))?;
    holds("until its time", now() - start >= 20 * MILLISECOND - 50_000)
}

/// An event of a masked port wakes the vCPU that polls for it, without an upcall.
pub fn wakes() -> Told {
    start(2)?;
    let port = hypercall::bind_ipi(0).map_err(refusal)?;
    for _ in 0..200 {
        let start = now();
        smp::run_on(1, move || _ = hypercall::send(port));
        equal("poll", hypercall::poll(&[port], start + 60_000 * MILLISECOND), Ok(0))?;
        holds("woken by the event", event::clear_pending(port))?;
    }
    equal("upcalls", COUNT.load(SeqCst), 0)
}

/// Many ports, a wake by the last of them.
pub fn wakes_by_one_of_many() -> Told {
    start(2)?;
    let ports: Vec<u32> = (0..128).map_while(|_| hypercall::bind_ipi(0).ok()).collect();
    for port in ports.iter().rev().step_by(9) {
        let port = *port;
        smp::run_on(1, move || _ = hypercall::send(port));
        equal("poll", hypercall::poll(&ports, now() + 60_000 * MILLISECOND), Ok(0))?;
        holds("woken by the event", event::clear_pending(port))?;
    }
    Ok(())
}

/// A poll for other ports sleeps on when an event comes for none of them.
pub fn other_ports() -> Told {
    start(2)?;
    let polled = hypercall::bind_ipi(0).map_err(refusal)?;
    let other = hypercall::bind_ipi(0).map_err(refusal)?;
    let start = now();
    smp::run_on(1, move || _ = hypercall::send(other));
    equal("poll", hypercall::poll(&[polled], start + 50 * MILLISECOND), Ok(0))?;
    holds("slept on", now() - start >= 50 * MILLISECOND - 50_000)?;
    wait_until("the other's event", || event::is_pending(other))
}

/// With upcalls unmasked an event of any port ends the poll, and is handled.
pub fn upcall_ends_it() -> Told {
    start(2)?;
    let polled = hypercall::bind_ipi(0).map_err(refusal)?;
    let other = event::bind_ipi(0, count).map_err(refusal)?;
    static WOKEN: AtomicBool = AtomicBool::new(false);
    // Again and again, for the first may come before the poll.
    smp::run_on(1, move || {
        while !WOKEN.load(SeqCst) {
            let _ = hypercall::send(other);
            let _ = hypercall::poll(&[], now() + 10 * MILLISECOND);
        }
    });
    event::enable();
    let start = now();
    equal("poll", hypercall::poll(&[polled], start + 60_000 * MILLISECOND), Ok(0))?;
    WOKEN.store(true, SeqCst);
    event::disable();
    holds("woken", now() - start < 50_000 * MILLISECOND)?;
    holds("handled", COUNT.load(SeqCst) > 0)
}

/// Ports that aren't there.
pub fn bad_ports() -> Told {
    start(1)?;
    let good = hypercall::bind_ipi(0).map_err(refusal)?;
    for bad in [super::FAR, u32::MAX] {
        let ports = [good, bad];
        let poll = SchedPoll { ports: reads(&ports), nr_ports: 2, _pad: 0, timeout: now() + MILLISECOND };
        refused("poll", call(SCHED_OP, [SCHEDOP_POLL.into(), reads(&poll)]), Errno::EINVAL)?;
    }
    Ok(())
}
