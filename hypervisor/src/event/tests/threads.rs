//! Real threads: two send, two are the vCPUs that get the events and sleep in between, one masks and moves ports, one
//! closes them and connects them again. Each event that was sent is seen, and no vCPU sleeps for ever. Another vCPU polls a
//! masked port for messages, each of which is answered before the next is sent.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::guest::Guest;
use super::*;
use crate::domain::link::Activity;
use crate::mm::tests::Random;

const SENDS: u64 = 60_000;
/// Channels; the last ones are closed now and then.
const CHANNELS: usize = 20;
const STEADY: usize = 14;
/// Whoever waits longer waits for ever.
const LONG: Duration = Duration::from_secs(30);

/// The beds of vCPUs.
#[derive(Default)]
struct Beds([(Mutex<()>, Condvar); 2]);

impl Beds {
    fn sleep(&self, link: &VcpuLink) {
        let (lock, bell) = &self.0[link.id.0 as usize];
        let mut held = lock.lock().unwrap();
        if link.fall_asleep() {
            while link.activity() == Activity::Asleep {
                let (guard, timeout) = bell.wait_timeout(held, LONG).unwrap();
                assert!(!timeout.timed_out(), "{:?} sleeps for ever", link.id);
                held = guard;
            }
        }
    }

    fn wake(&self, link: &VcpuLink) {
        let (lock, bell) = &self.0[link.id.0 as usize];
        let _held = lock.lock().unwrap();
        link.set_activity(Activity::Running);
        bell.notify_all();
    }
}

impl Kick for &Beds {
    fn kick(&mut self, link: &VcpuLink) {
        if link.activity() == Activity::Asleep && link.has_reason_to_wake() {
            self.wake(link);
        }
    }
}

#[derive(Default)]
struct Shared {
    beds: Beds,
    /// Events that were sent and seen, by channel.
    sent: [AtomicU64; CHANNELS],
    seen: [AtomicU64; CHANNELS],
    handled: AtomicU64,
    connected: AtomicU64,
    done: AtomicBool,
}

fn run(fifo: bool) {
    let (sender, mut guest) = (domain(1, 1, 4096).0, Guest::new(domain(2, 2, 4096)));
    if fifo {
        guest.use_fifo();
        let _ = guest.expand(|_| false);
    }
    // Port n + 1 of either domain is channel n.
    (0..CHANNELS as u32).for_each(|n| assert_eq!(connect(&sender, &guest.events), (n + 1, n + 1)));
    let (shared, sending) = (&Shared::default(), &AtomicBool::new(true));
    let seed = crate::mm::tests::seed();
    let random = |n: u64| Random::new(seed.wrapping_add(n));
    thread::scope(|scope| {
        let vcpus = [V0, V1].map(|vcpu| {
            let guest = guest.again();
            scope.spawn(move || be_vcpu(guest, vcpu, shared))
        });
        let senders = [1, 2].map(|n| {
            let sender = &sender;
            scope.spawn(move || send(sender, random(n), shared))
        });
        let (mischief, mut closing) = (guest.again(), random(4));
        let masking = scope.spawn(move || mask_and_move(&mischief, random(3), shared, sending));
        let (near, far) = (&sender, &guest.events);
        let closer = scope.spawn(move || {
            while sending.load(SeqCst) {
                let port = (STEADY as u64 + closing.next((CHANNELS - STEADY) as u64)) as u32 + 1;
                far.close(port).unwrap();
                // In FIFO delivery its number may still be in a queue, and it gets another.
                if let Ok((again, wake)) = far.bind_interdomain(near, port) {
                    shared.connected.fetch_add(1, SeqCst);
                    wake.kick(&mut &shared.beds);
                    if again != port {
                        far.close(again).unwrap();
                        break;
                    }
                }
            }
        });
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        sending.store(false, SeqCst);
        masking.join().unwrap();
        closer.join().unwrap();
        let start = Instant::now();
        let settled = |n: usize| shared.sent[n].load(SeqCst) == shared.seen[n].load(SeqCst);
        while !(0..STEADY).all(settled) {
            assert!(start.elapsed() < LONG, "an event was lost: {:?} {:?}", shared.sent, shared.seen);
            thread::yield_now();
        }
        shared.done.store(true, SeqCst);
        while !vcpus.iter().all(thread::ScopedJoinHandle::is_finished) {
            guest.events.vcpus().iter().for_each(|link| shared.beds.wake(link));
            thread::yield_now();
        }
    });
    let most = 2 * SENDS + shared.connected.load(SeqCst) + CHANNELS as u64;
    assert!(shared.handled.load(SeqCst) <= most, "events were invented");
}

fn be_vcpu(mut guest: Guest, vcpu: VcpuId, shared: &Shared) {
    let events = guest.events.clone();
    while !shared.done.load(SeqCst) {
        let upcall = guest.upcall(vcpu, |port| {
            let n = port as usize - 1;
            shared.handled.fetch_add(1, SeqCst);
            shared.seen[n].fetch_max(shared.sent[n].load(SeqCst), SeqCst);
        });
        if !upcall {
            shared.beds.sleep(events.vcpu(vcpu).unwrap());
        }
    }
}

fn send(sender: &Arc<Events>, mut random: Random, shared: &Shared) {
    for _ in 0..SENDS {
        let n = random.next(CHANNELS as u64) as usize;
        shared.sent[n].fetch_add(1, SeqCst);
        sender.send(n as u32 + 1).unwrap().kick(&mut &shared.beds);
    }
}

fn mask_and_move(guest: &Guest, mut random: Random, shared: &Shared, sending: &AtomicBool) {
    let unmask = |port| guest.events.unmask(port).unwrap().kick(&mut &shared.beds);
    while sending.load(SeqCst) {
        let port = random.next(STEADY as u64) as u32 + 1;
        match random.next(3) {
            0 => {
                guest.mask(port);
                unmask(port);
            }
            1 => {
                guest.mask(port);
                thread::yield_now();
                unmask(port);
            }
            _ => {
                let vcpu = VcpuId(random.next(2) as u32);
                guest.migrate(port, vcpu, false).into_iter().for_each(|wake| wake.kick(&mut &shared.beds));
            }
        }
    }
}

/// As a kernel's spin locks do it: whoever waits polls a masked port, whoever unlocks sends there.
fn poll(fifo: bool) {
    const MESSAGES: u64 = 20_000;
    let mut guest = Guest::new(domain(1, 2, 4096));
    if fifo {
        guest.use_fifo();
        let _ = guest.expand(|_| true);
    }
    let events = &guest.events;
    let port = events.bind_ipi(V1).unwrap();
    guest.mask(port);
    let (beds, answered) = (&Beds::default(), &AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while answered.load(SeqCst) < MESSAGES {
                events.begin_poll(V1, None);
                if !events.is_pending(port).unwrap() {
                    beds.sleep(events.vcpu(V1).unwrap());
                }
                events.end_poll(V1);
                if guest.clear(port) {
                    answered.fetch_add(1, SeqCst);
                }
            }
        });
        for message in 1..=MESSAGES {
            events.send(port).unwrap().kick(&mut &*beds);
            let start = Instant::now();
            while answered.load(SeqCst) < message {
                assert!(start.elapsed() < LONG, "message {message} was lost");
                thread::yield_now();
            }
        }
    });
}

#[test]
fn real_threads_poll_in_2_level_delivery() {
    poll(false);
}

#[test]
fn real_threads_poll_in_fifo_delivery() {
    poll(true);
}

#[test]
fn real_threads_lose_nothing_in_2_level_delivery() {
    run(false);
}

#[test]
fn real_threads_lose_nothing_in_fifo_delivery() {
    run(true);
}
