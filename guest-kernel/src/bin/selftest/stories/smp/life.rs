//! vCPUs that go down and come up again.

use super::{start_all, wait_until};
use crate::check::{Told, equal, holds};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_kernel::{event, hypercall, smp, vcpu};

static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// A vCPU that stops itself goes on behind the call when another starts it again.
pub fn down_and_up() -> Told {
    const TURNS: u32 = 100;
    start_all()?;
    smp::run_on(1, || {
        for _ in 0..TURNS {
            ROUNDS.fetch_add(1, SeqCst);
            let _ = hypercall::vcpu_down(1);
        }
    });
    for round in 1..=TURNS {
        wait_until("down", || ROUNDS.load(SeqCst) == round && hypercall::vcpu_is_up(1) == Ok(0))?;
        equal("up", hypercall::vcpu_up(1), Ok(0))?;
    }
    equal("works on", smp::everywhere(2, |id| id), [0, 1].to_vec())
}

/// One vCPU stops and starts the others, which don't notice, whatever they do at the moment.
pub fn from_outside() -> Told {
    let count = start_all()?;
    static SUMS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    static STOP: AtomicU32 = AtomicU32::new(0);
    for id in 1..count {
        smp::run_on(id, move || {
            while STOP.load(SeqCst) == 0 {
                SUMS[id as usize].fetch_add(1, SeqCst);
                if vcpu::current() != id {
                    SUMS[id as usize].store(u64::MAX / 2, SeqCst);
                }
            }
        });
    }
    let sum = |id: u32| SUMS[id as usize].load(SeqCst);
    for id in (1..count).cycle().take(60) {
        equal("down", hypercall::vcpu_down(id), Ok(0))?;
        equal("is up", hypercall::vcpu_is_up(id), Ok(0))?;
        // It may have been under way; then it stands still.
        let _ = hypercall::yield_now();
        let before = sum(id);
        (0..1000).for_each(|_| core::hint::spin_loop());
        holds("stands still", sum(id) - before <= 1)?;
        equal("up", hypercall::vcpu_up(id), Ok(0))?;
        let before = sum(id);
        wait_until("goes on", || sum(id) > before)?;
    }
    STOP.store(1, SeqCst);
    smp::everywhere(count, |_| ());
    holds("always on the same vCPU", (1..count).all(|id| sum(id) < u64::MAX / 2))
}

/// Events for a vCPU that is down are there when it is up.
pub fn events_while_down() -> Told {
    start_all()?;
    static CAME: AtomicU32 = AtomicU32::new(0);
    let port = event::bind_ipi(1, |_| _ = CAME.fetch_add(1, SeqCst)).map_err(crate::stories::event::refusal)?;
    smp::everywhere(2, |_| ());
    equal("down", hypercall::vcpu_down(1), Ok(0))?;
    equal("send", hypercall::send(port), Ok(()))?;
    (0..100).for_each(|_| _ = hypercall::yield_now());
    equal("handled while down", CAME.load(SeqCst), 0)?;
    equal("up", hypercall::vcpu_up(1), Ok(0))?;
    wait_until("the event", || CAME.load(SeqCst) == 1)
}
