//! Locks under contention.

use super::start_all;
use crate::check::{Told, equal};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use guest_kernel::sync::Mutex;
use guest_kernel::{event, hypercall, smp};

/// The kernel's own lock, whose waiters yield; the heap, which has one, too.
pub fn yielding() -> Told {
    const TURNS: u64 = 2000;
    let count = start_all()?;
    let sum = Mutex::new(0u64);
    let lists = smp::everywhere(count, |id| {
        let mut list = Vec::new();
        for turn in 0..TURNS {
            *sum.lock() += turn;
            list.push(u64::from(id) << 32 | turn);
        }
        list
    });
    equal("sum", sum.into_inner(), u64::from(count) * TURNS * (TURNS - 1) / 2)?;
    for (id, list) in (0..).zip(lists) {
        equal("list", list, (0..TURNS).map(|turn| id << 32 | turn).collect())?;
    }
    Ok(())
}

/// A lock whose waiters sleep until they are kicked, as Linux has it: each has a masked port and polls for it.
struct Kicked {
    held: AtomicBool,
    waits: [AtomicBool; 8],
    kicks: Vec<u32>,
    counter: UnsafeCell<u64>,
}

// SAFETY: the counter is used by the holder only.
unsafe impl Sync for Kicked {}

/// How often a waiter slept.
static SLEPT: AtomicU32 = AtomicU32::new(0);

impl Kicked {
    fn take(&self) -> bool {
        (0..64).any(|_| !self.held.swap(true, SeqCst))
    }

    fn lock(&self, id: usize) {
        while !self.take() {
            self.waits[id].store(true, SeqCst);
            event::clear_pending(self.kicks[id]);
            // Whoever frees it from here on sees that we wait.
            if self.held.load(SeqCst) {
                SLEPT.fetch_add(1, SeqCst);
                let _ = hypercall::poll(&[self.kicks[id]], 0);
            }
            self.waits[id].store(false, SeqCst);
        }
    }

    fn unlock(&self) {
        self.held.store(false, SeqCst);
        if let Some(waiter) = self.waits.iter().position(|waits| waits.load(SeqCst)) {
            let _ = hypercall::send(self.kicks[waiter]);
        }
    }
}

/// Nothing is lost and nobody sleeps for good.
pub fn kicked() -> Told {
    const TURNS: u64 = 1000;
    let count = start_all()?;
    let kicks: Result<Vec<_>, _> = (0..count).map(hypercall::bind_ipi).collect();
    let lock = Kicked {
        held: AtomicBool::new(false),
        waits: [const { AtomicBool::new(false) }; 8],
        kicks: kicks.map_err(crate::stories::event::refusal)?,
        counter: UnsafeCell::new(0),
    };
    smp::everywhere(count, |id| {
        for turn in 0..TURNS {
            lock.lock(id as usize);
            // SAFETY: the lock is held.
            unsafe { *lock.counter.get() += 1 };
            if turn % 8 == 0 {
                // Others come to wait.
                let _ = hypercall::yield_now();
            }
            lock.unlock();
        }
    });
    guest_kernel::println!("slept {} times", SLEPT.load(SeqCst));
    equal("counter", lock.counter.into_inner(), u64::from(count) * TURNS)
}
