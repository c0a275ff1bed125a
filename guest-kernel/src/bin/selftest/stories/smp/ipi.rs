//! vCPUs that wake each other.

use super::{start_all, wait_until};
use crate::check::{Told, equal};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::{event, hypercall, println, smp, time};

static BALL: AtomicU32 = AtomicU32::new(0);

/// Two vCPUs that each sleep until the other sends.
pub fn ping_pong() -> Told {
    const ROUNDS: u32 = 2000;
    start_all()?;
    let mut ports = Vec::new();
    for id in 0..2 {
        ports.push(event::bind_ipi(id, |_| {}).map_err(crate::stories::event::refusal)?);
    }
    let start = time::now().unwrap_or(0);
    smp::everywhere(2, |id| {
        let mine = id;
        event::disable();
        for round in 0..ROUNDS {
            while BALL.load(SeqCst) != 2 * round + mine {
                let _ = hypercall::block();
                event::disable();
            }
            BALL.fetch_add(1, SeqCst);
            let _ = hypercall::send(ports[1 - id as usize]);
        }
        event::enable();
    });
    event::disable();
    println!("{} ns a round", (time::now().unwrap_or(0) - start) / u64::from(ROUNDS));
    equal("turns", BALL.load(SeqCst), 2 * ROUNDS)
}

/// Every vCPU sends to every other, all at once.
pub fn all_to_all() -> Told {
    const SENDS: u32 = 300;
    static CAME: AtomicU32 = AtomicU32::new(0);
    static WAITING: AtomicU32 = AtomicU32::new(0);
    let count = start_all()?;
    let mut ports = Vec::new();
    for id in 0..count {
        ports.push(event::bind_ipi(id, |_| _ = CAME.fetch_add(1, SeqCst)).map_err(crate::stories::event::refusal)?);
    }
    event::enable();
    smp::everywhere(count, |id| {
        for _ in 0..SENDS {
            ports.iter().enumerate().filter(|(at, _)| *at != id as usize).for_each(|(_, port)| {
                let _ = hypercall::send(*port);
            });
        }
        // The last event of each port must come, whatever happened to the ones before.
        WAITING.fetch_add(1, SeqCst);
        while WAITING.load(SeqCst) < count {
            let _ = hypercall::yield_now();
        }
    });
    let before = CAME.load(SeqCst);
    for (at, port) in (0..).zip(&ports) {
        equal("send", hypercall::send(*port), Ok(()))?;
        wait_until("the last event", || CAME.load(SeqCst) > before + at)?;
    }
    event::disable();
    Ok(())
}

/// Thousands of short jobs.
pub fn jobs() -> Told {
    static SUM: AtomicU32 = AtomicU32::new(0);
    const JOBS: u32 = 3000;
    let count = start_all()?;
    for job in 0..JOBS {
        smp::run_on(1 + job % (count - 1), move || _ = SUM.fetch_add(job, SeqCst));
    }
    smp::everywhere(count, |_| ());
    equal("sum", SUM.load(SeqCst), JOBS * (JOBS - 1) / 2)
}
