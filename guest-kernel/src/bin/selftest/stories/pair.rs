//! Stories of several domains. They know each other's numbers from the command line and nothing else: one offers the
//! first port it gets, the other tries the first ports until one takes it.
//!
//! Ports stay masked; domains poll for them.

use super::event::refusal;
use super::smp::wait_until;
use crate::check::{Ending, Told, equal, fail, holds};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::start::command_line;
use guest_kernel::{cmdline, event, hypercall, println, time, timer};
use pv_abi::domid::DOMID_SELF;
use pv_abi::event::{EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_UNBOUND};

const MILLISECOND: u64 = 1_000_000;
/// The time that a peer has for anything. The machine under the test may be a busy one, and domains many.
const PATIENCE: u64 = 100_000 * MILLISECOND;
/// Ports that are tried.
const TRIED: u32 = 16;

fn now() -> u64 {
    time::now().unwrap_or(0)
}

/// A number on the command line.
pub fn number(name: &str) -> Result<u16, Ending> {
    let text = cmdline::option(command_line(), name);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Ending::Fail(alloc::format!("no {name}= on the command line")))
}

/// Waits for an event, and takes it.
pub fn wait(port: u32) -> Told {
    let limit = now() + PATIENCE;
    while !event::clear_pending(port) {
        if now() > limit {
            return fail("no event");
        }
        hypercall::poll(&[port], limit).map_err(refusal)?;
    }
    Ok(())
}

/// A port for the domain to take, and nobody else.
fn offer(domain: u16) -> Result<u32, Ending> {
    hypercall::alloc_unbound(DOMID_SELF, domain).map_err(refusal)
}

/// Takes the port that the domain offers, when it does. The event that comes with it is taken too, and the other is told.
fn take(domain: u16) -> Result<u32, Ending> {
    let limit = now() + PATIENCE;
    loop {
        if let Some(port) = (1..TRIED).find_map(|port| hypercall::bind_interdomain(domain, port).ok()) {
            event::clear_pending(port);
            hypercall::send(port).map_err(refusal)?;
            return Ok(port);
        }
        if now() > limit {
            return Err(Ending::Fail(alloc::format!("domain {domain} has no port for us")));
        }
        hypercall::poll(&[], now() + 5 * MILLISECOND).map_err(refusal)?;
    }
}

/// An offered port, once it is taken.
pub fn connected(domain: u16) -> Result<u32, Ending> {
    event::init().map_err(refusal)?;
    let port = offer(domain)?;
    wait(port)?;
    Ok(port)
}

/// A taken port.
pub fn joined(domain: u16) -> Result<u32, Ending> {
    event::init().map_err(refusal)?;
    take(domain)
}

const ROUNDS: u64 = 2000;

/// Serves, and measures.
pub fn ping() -> Told {
    let port = connected(number("peer")?)?;
    let start = now();
    for _ in 0..ROUNDS {
        hypercall::send(port).map_err(refusal)?;
        wait(port)?;
    }
    println!("{} ns a round", (now() - start) / ROUNDS);
    Ok(())
}

/// Returns.
pub fn pong() -> Told {
    let port = joined(number("peer")?)?;
    for _ in 0..ROUNDS {
        wait(port)?;
        hypercall::send(port).map_err(refusal)?;
    }
    Ok(())
}

/// Sends as fast as it can, until nobody is there any more.
pub fn storm() -> Told {
    let port = joined(number("peer")?)?;
    while hypercall::port_status(port).is_ok_and(|status| status.status == EVTCHNSTAT_INTERDOMAIN) {
        for _ in 0..1000 {
            hypercall::send(port).map_err(refusal)?;
        }
    }
    Ok(())
}

/// Wakes in time though a neighbour sends as fast as it can.
pub fn latency() -> Told {
    static CAME: AtomicU32 = AtomicU32::new(0);
    let port = connected(number("peer")?)?;
    event::attach(port, 0, |_| _ = CAME.fetch_add(1, SeqCst));
    timer::init().map_err(refusal)?;
    let mut late = [0; 100];
    for late in &mut late {
        let at = now() + 3 * MILLISECOND;
        timer::sleep_until(at).map_err(refusal)?;
        *late = now() - at;
    }
    late.sort_unstable();
    println!("{} events came; {} ns late in the middle, {} at most", CAME.load(SeqCst), late[50], late[99]);
    holds("a storm", CAME.load(SeqCst) > 0)?;
    // A slice of the hypervisor's scheduler and more. Now and then the host takes much more for itself.
    holds("late", late[50] < 200 * MILLISECOND)
}

/// Is connected, and ends.
pub fn goner() -> Told {
    joined(number("peer")?).map(drop)
}

/// When the other is gone the port waits for another, and takes what is sent to nobody.
pub fn survivor() -> Told {
    let peer = number("peer")?;
    let port = connected(peer)?;
    let status = || hypercall::port_status(port);
    wait_until("the end of the other", || status().is_ok_and(|status| status.status == EVTCHNSTAT_UNBOUND))?;
    equal("whom it waits for", status().map(|status| status.detail), Ok(peer.into()))?;
    equal("send", hypercall::send(port), Ok(()))?;
    equal("close", hypercall::close_port(port), Ok(()))
}

/// One of many in a ring, around which an event goes twice.
pub fn ring() -> Told {
    let (before, after, me) = (number("before")?, number("after")?, number("me")?);
    event::init().map_err(refusal)?;
    let next = offer(after)?;
    let previous = take(before)?;
    wait(next)?;
    for _ in 0..2 {
        if me == 1 {
            hypercall::send(next).map_err(refusal)?;
        }
        wait(previous)?;
        if me != 1 {
            hypercall::send(next).map_err(refusal)?;
        }
    }
    Ok(())
}
