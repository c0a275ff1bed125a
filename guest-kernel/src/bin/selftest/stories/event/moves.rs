//! Ports that change their vCPU.

use super::{COUNT, refusal, start, unbound};
use crate::check::{Told, equal, holds};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall, smp, time, vcpu};
use pv_abi::domid::DOMID_SELF;

/// Events by the vCPU that handled them.
static BY: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn note(_port: u32) {
    BY[vcpu::current() as usize & 1].fetch_add(1, SeqCst);
    // Last: the other vCPU goes on when it sees this.
    COUNT.fetch_add(1, SeqCst);
}

/// A connected port whose events go to `note`, and its other end.
fn connected() -> Result<(u32, u32), crate::check::Ending> {
    let far = unbound()?;
    let port = event::bind_interdomain(DOMID_SELF, far, note).map_err(refusal)?;
    event::enable();
    event::disable();
    COUNT.store(0, SeqCst);
    BY.iter().for_each(|count| count.store(0, SeqCst));
    Ok((port, far))
}

fn wait_for(count: u32) -> Told {
    let limit = time::now().unwrap_or(0) + 60_000_000_000;
    while COUNT.load(SeqCst) < count {
        holds("an event was lost", time::now().unwrap_or(u64::MAX) < limit)?;
        event::enable();
        let _ = hypercall::yield_now();
        event::disable();
    }
    Ok(())
}

/// Each event goes to the vCPU that the port is bound to.
fn follow() -> Told {
    let (port, far) = connected()?;
    for round in 0..400u32 {
        equal("move", event::move_to(port, round % 2), Ok(()))?;
        equal("send", hypercall::send(far), Ok(()))?;
        wait_for(round + 1)?;
    }
    equal("by each", [BY[0].load(SeqCst), BY[1].load(SeqCst)], [200, 200])
}

/// [`follow`], with 2-level delivery.
pub fn two_level() -> Told {
    start(2)?;
    follow()
}

/// [`follow`], with FIFO delivery.
pub fn fifo() -> Told {
    start(2)?;
    equal("FIFO", event::start_fifo(2, 1024), Ok(()))?;
    follow()
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Moved to and fro while events come, a FIFO port is never on two queues and loses nothing: the last event is seen.
pub fn fifo_under_fire() -> Told {
    start(2)?;
    equal("FIFO", event::start_fifo(2, 1024), Ok(()))?;
    let (port, far) = connected()?;
    smp::run_on(1, move || {
        while !STOP.load(SeqCst) {
            let _ = hypercall::send(far);
        }
    });
    event::enable();
    wait_for(1)?;
    event::enable();
    for round in 0..2000u32 {
        equal("move", hypercall::bind_vcpu(port, round % 2), Ok(()))?;
    }
    STOP.store(true, SeqCst);
    equal("move", hypercall::bind_vcpu(port, 0), Ok(()))?;
    smp::everywhere(2, |_| ());
    event::disable();
    let seen = COUNT.load(SeqCst);
    for round in 1..10 {
        equal("send", hypercall::send(far), Ok(()))?;
        wait_for(seen + round)?;
    }
    Ok(())
}
