//! Threads of the kernel, on all vCPUs that there are, and on one.

use super::vcpus;
use crate::check::{Ending, Told, equal, fail, holds};
use crate::stories::event::{refusal, start};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guest_kernel::thread::block::Mutex;
use guest_kernel::thread::channel::channel;
use guest_kernel::thread::{self, JoinHandle, checkpoint, park, spawn, yield_now};
use guest_kernel::{event, hypercall, println, probe, sync, time, vcpu};

/// Runs `root` as a thread on all vCPUs.
fn run<T: Send + 'static>(root: impl FnOnce() -> Result<T, Ending> + Send + 'static) -> Result<T, Ending> {
    start(vcpus())?;
    thread::run(vcpus(), root).map_err(|error| Ending::Fail(format!("threads: {error}")))?
}

/// Spawns a thread; there must be room for it.
fn go<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Ending> {
    spawn(work).map_err(|error| Ending::Fail(format!("spawn: {error}")))
}

/// Thousands of threads at once, twice; each yields and is joined, and knows its own stack.
pub fn many() -> Told {
    const COUNT: u64 = 2000;
    run(|| {
        for round in 0..2 {
            let threads: Result<Vec<_>, _> = (0..COUNT)
                .map(|number| {
                    go(move || {
                        let here = &raw const number as u64;
                        let stack = thread::current().stack();
                        for _ in 0..number % 5 {
                            yield_now();
                        }
                        (stack.contains(&here), stack.start, number)
                    })
                })
                .collect();
            let ended: Vec<_> = threads?.into_iter().map(JoinHandle::join).collect();
            holds("on its own stack", ended.iter().all(|(own, ..)| *own))?;
            equal("what they return", ended.iter().map(|(.., number)| number).sum(), COUNT * (COUNT - 1) / 2)?;
            println!("round {round}: {} threads", ended.len());
        }
        Ok(())
    })
}

/// The page below a stack isn't there, and stacks of threads that are there at once don't overlap.
pub fn stacks() -> Told {
    run(|| {
        let threads: Result<Vec<_>, _> = (0..50).map(|_| go(park)).collect();
        let threads = threads?;
        let mut last = 0;
        let mut ranges: Vec<_> = threads.iter().map(|thread| thread.thread().stack()).collect();
        ranges.sort_by_key(|range| range.start);
        for range in ranges {
            holds("stacks overlap", range.start > last)?;
            holds("the page below is mapped", probe::read(range.start - 8).is_err())?;
            holds("the stack isn't mapped", probe::read(range.start).is_ok() && probe::read(range.end - 8).is_ok())?;
            last = range.end;
        }
        threads.iter().for_each(|thread| thread.thread().unpark());
        threads.into_iter().for_each(JoinHandle::join);
        Ok(())
    })
}

/// Pairs of threads that each wait until the other has had its turn. A lost wake-up would be the end.
pub fn ping_pong() -> Told {
    const PAIRS: usize = 8;
    const ROUNDS: u32 = 2000;
    let began = time::now().unwrap_or(0);
    let turns = run(|| {
        let mut threads = Vec::new();
        for _ in 0..PAIRS {
            let ball = Arc::new(AtomicU32::new(0));
            let partner: Arc<sync::Mutex<Option<Arc<thread::Thread>>>> = Arc::default();
            let player = |mine: u32, ball: Arc<AtomicU32>, partner: Arc<sync::Mutex<Option<Arc<thread::Thread>>>>| {
                move || {
                    // The first comes to wait for the second to say who it is.
                    let other = loop {
                        let mut slot = partner.lock();
                        match slot.take() {
                            Some(other) if !Arc::ptr_eq(&other, &thread::current()) => {
                                *slot = Some(thread::current());
                                drop(slot);
                                other.unpark();
                                break other;
                            }
                            _ => *slot = Some(thread::current()),
                        }
                        drop(slot);
                        yield_now();
                    };
                    for round in 0..ROUNDS {
                        while ball.load(SeqCst) != 2 * round + mine {
                            park();
                        }
                        ball.fetch_add(1, SeqCst);
                        other.unpark();
                    }
                    ball.load(SeqCst)
                }
            };
            threads.push(go(player(0, ball.clone(), partner.clone()))?);
            threads.push(go(player(1, ball, partner))?);
        }
        Ok(threads.into_iter().map(JoinHandle::join).max())
    })?;
    println!("{} ns a turn", (time::now().unwrap_or(0) - began) / (u64::from(ROUNDS) * 2 * PAIRS as u64));
    equal("turns", turns, Some(2 * ROUNDS))
}

/// A lock that its holders keep while they yield and sleep.
pub fn lock() -> Told {
    const THREADS: u64 = 50;
    const TURNS: u64 = 100;
    let sum = run(|| {
        let sum = Arc::new(Mutex::new((0u64, 0u64)));
        let threads: Result<Vec<_>, _> = (0..THREADS)
            .map(|number| {
                let sum = sum.clone();
                go(move || {
                    for turn in 0..TURNS {
                        let mut sum = sum.lock();
                        let (before, _) = *sum;
                        match (number + turn) % 16 {
                            0 => thread::sleep(10_000),
                            1..6 => yield_now(),
                            _ => {}
                        }
                        *sum = (before + 1, sum.1 + turn);
                    }
                })
            })
            .collect();
        threads?.into_iter().for_each(JoinHandle::join);
        let answer = *sum.lock();
        Ok(answer)
    })?;
    equal("turns with the lock", sum, (THREADS * TURNS, THREADS * TURNS * (TURNS - 1) / 2))
}

/// Values through a channel with little room: each comes once, those of a sender in order, and the end is seen.
pub fn channels() -> Told {
    const SENDERS: u64 = 6;
    const VALUES: u64 = 500;
    run(|| {
        let (sender, receiver) = channel::<(u64, u64)>(3);
        for id in 0..SENDERS {
            let sender = sender.clone();
            go(move || (0..VALUES).all(|value| sender.send((id, value)).is_ok()))?;
        }
        drop(sender);
        let receivers: Result<Vec<_>, _> = (0..4)
            .map(|_| {
                let receiver = receiver.clone();
                go(move || core::iter::from_fn(|| receiver.receive()).collect::<Vec<_>>())
            })
            .collect();
        let mut came = Vec::new();
        for receiver in receivers? {
            let values = receiver.join();
            for id in 0..SENDERS {
                let of_one: Vec<_> = values.iter().filter(|value| value.0 == id).collect();
                holds("values of one sender in order", of_one.is_sorted())?;
            }
            came.extend(values);
        }
        came.sort_unstable();
        let all = (0..SENDERS).flat_map(|id| (0..VALUES).map(move |value| (id, value)));
        holds("each value once", came.into_iter().eq(all))?;

        let (sender, receiver) = channel(1);
        equal("a sender with room", sender.send(1), Ok(()))?;
        let waits = go(move || sender.send(2))?;
        thread::sleep(1_000_000);
        drop(receiver);
        equal("a sender without receivers", waits.join(), Err(2))
    })
}

/// Many that sleep: nobody wakes early, and all wake.
pub fn sleepers() -> Told {
    const COUNT: u64 = 300;
    run(|| {
        let threads: Result<Vec<_>, _> = (0..COUNT)
            .map(|number| {
                go(move || {
                    let mut late = 0;
                    for turn in 1..4 {
                        let nanoseconds = (number * turn * 7919 % 1000) * 20_000;
                        let began = time::now().unwrap_or(0);
                        thread::sleep(nanoseconds);
                        let slept = time::now().unwrap_or(0) - began;
                        if slept < nanoseconds {
                            return Err(nanoseconds - slept);
                        }
                        late = late.max(slept - nanoseconds);
                    }
                    Ok(late)
                })
            })
            .collect();
        let mut latest = 0;
        for thread in threads? {
            match thread.join() {
                Ok(late) => latest = latest.max(late),
                Err(early) => fail(&format!("{early} ns early"))?,
            }
        }
        println!("at most {} us late", latest / 1000);
        Ok(())
    })
}

/// Threads that compute let others run where they look at the time, also on one vCPU.
pub fn checkpoints() -> Told {
    run(|| {
        let (stop, begun) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let busy: Result<Vec<_>, _> = (0..2 * vcpus())
            .map(|_| {
                let (stop, begun) = (stop.clone(), begun.clone());
                go(move || {
                    begun.fetch_add(1, SeqCst);
                    while stop.load(SeqCst) == 0 {
                        checkpoint();
                    }
                })
            })
            .collect();
        // We need a vCPU for each turn of these.
        let limit = time::now().unwrap_or(0) + 60_000_000_000;
        let mut turns = 0;
        let all_begun = loop {
            thread::sleep(5_000_000);
            yield_now();
            turns += 1;
            let all = begun.load(SeqCst) == 2 * vcpus();
            if all && turns >= 5 || time::now().is_none_or(|now| now > limit) {
                break all;
            }
        };
        stop.store(1, SeqCst);
        busy?.into_iter().for_each(JoinHandle::join);
        holds("one had no turn", all_begun)
    })
}

/// The handler of an event wakes a thread, whatever it interrupts: here threads that spawn and allocate.
pub fn handlers() -> Told {
    static CAME: AtomicU64 = AtomicU64::new(0);
    static WAITER: sync::Once<Arc<thread::Thread>> = sync::Once::new();
    const EVENTS: u64 = 500;
    run(|| {
        let waiter = go(|| {
            let mut wakes = 0u64;
            while CAME.load(SeqCst) < EVENTS {
                park();
                wakes += 1;
            }
            wakes
        })?;
        WAITER.call_once(|| waiter.thread().clone());
        let mut ports = Vec::new();
        for id in 0..vcpus() {
            let handler = |_| {
                CAME.fetch_add(1, SeqCst);
                if let Some(waiter) = WAITER.get() {
                    waiter.unpark();
                }
            };
            ports.push(event::bind_ipi(id, handler).map_err(refusal)?);
        }
        let mut sent = 0;
        while CAME.load(SeqCst) < EVENTS {
            hypercall::send(ports[sent % ports.len()]).map_err(refusal)?;
            sent += 1;
            let busy = go(move || (0..sent % 50).collect::<Vec<_>>().len())?;
            equal("what a thread returns", busy.join(), sent % 50)?;
        }
        let wakes = waiter.join();
        holds("wake-ups", (1..=EVENTS * 2).contains(&wakes))?;
        ports.into_iter().try_for_each(|port| event::close(port).map_err(refusal))
    })
}

/// Threads use all vCPUs, and one after the other, on as many as are asked for.
pub fn everywhere() -> Told {
    start(vcpus())?;
    for count in 1..=vcpus() {
        let seen = thread::run(count, move || {
            let seen: Arc<AtomicU32> = Arc::default();
            let until = time::now().unwrap_or(0) + 20_000_000_000;
            let all = (1 << count) - 1;
            let threads: Vec<_> = (0..2 * count)
                .filter_map(|_| {
                    let seen = seen.clone();
                    let look = move || {
                        while seen.fetch_or(1 << vcpu::current(), SeqCst) != all
                            && time::now().is_some_and(|now| now < until)
                        {
                            yield_now();
                        }
                    };
                    spawn(look).ok()
                })
                .collect();
            threads.into_iter().for_each(JoinHandle::join);
            seen.load(SeqCst)
        });
        equal("vCPUs that ran threads", seen, Ok((1 << count) - 1))?;
    }
    Ok(())
}
