//! FIFO queues under `shuttle`, which runs threads one at a time and switches between them at every access to a shared
//! word. Two senders, one of which moves ports between vCPUs and priorities; two vCPUs that take events. Afterwards
//! everything that was sent has been seen, and queues are whole: each is a list without a loop.

use core::sync::atomic::Ordering::SeqCst;

use shuttle::sync::atomic::{AtomicBool, AtomicU32};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use std::vec::Vec;

use crate::addr::{Mfn, VcpuId};
use crate::event::fifo::Place;
use crate::event::fifo::link::{Control, LINKED, Lists, MASKED, PENDING, Queues, Word, enqueue};
use pv_abi::event::{EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_PENDING};

const VCPUS: usize = 2;
/// Ports, the first of which isn't used.
const PORTS: usize = 4;

struct Shared(AtomicU32);

impl Word for Shared {
    fn load(&self) -> u32 {
        self.0.load(SeqCst)
    }

    fn store(&self, value: u32) {
        self.0.store(value, SeqCst);
    }

    fn test_and_set(&self, bit: u32) -> bool {
        self.0.fetch_or(1 << bit, SeqCst) >> bit & 1 != 0
    }

    fn test_and_clear(&self, bit: u32) -> bool {
        self.0.fetch_and(!(1 << bit), SeqCst) >> bit & 1 != 0
    }

    fn add(&self, value: u32) -> u32 {
        self.0.fetch_add(value, SeqCst)
    }
}

fn words(count: usize) -> Vec<Shared> {
    (0..count).map(|_| Shared(AtomicU32::new(0))).collect()
}

struct Domain {
    words: Vec<Shared>,
    control: Vec<Vec<Shared>>,
    queues: Vec<Mutex<Queues>>,
    places: Vec<Mutex<Place>>,
    vcpu: Vec<AtomicU32>,
    upcall: Vec<AtomicBool>,
    sent: Vec<AtomicU32>,
    seen: Vec<AtomicU32>,
}

impl Lists for Domain {
    type Word = Shared;

    fn word(&self, port: u32) -> Option<&Shared> {
        self.words.get(port as usize)
    }

    fn control(&self, block: Control, index: usize) -> &Shared {
        &self.control[block.mfn.0 as usize][index]
    }

    fn with_queues<T>(&self, vcpu: VcpuId, work: impl FnOnce(&mut Queues) -> T) -> Option<T> {
        Some(work(&mut self.queues.get(vcpu.0 as usize)?.lock().unwrap()))
    }
}

/// The ports that a vCPU has begun to take from, by priority.
type Heads = [u32; 16];

impl Domain {
    fn new() -> Domain {
        let queues = |vcpu| {
            let mut queues = Queues::default();
            queues.control = Some(Control { mfn: Mfn(vcpu), first: 0 });
            Mutex::new(queues)
        };
        let counters = || (0..PORTS).map(|_| AtomicU32::new(0)).collect();
        Domain {
            words: words(PORTS),
            control: (0..VCPUS).map(|_| words(18)).collect(),
            queues: (0..VCPUS as u64).map(queues).collect(),
            places: (0..PORTS).map(|_| Mutex::new(Place::NEW)).collect(),
            vcpu: counters(),
            upcall: (0..VCPUS).map(|_| AtomicBool::new(false)).collect(),
            sent: counters(),
            seen: counters(),
        }
    }

    fn send(&self, port: u32) {
        self.sent[port as usize].fetch_add(1, SeqCst);
        let vcpu = VcpuId(self.vcpu[port as usize].load(SeqCst));
        self.words[port as usize].test_and_set(EVTCHN_FIFO_PENDING);
        if enqueue(self, port, &mut self.places[port as usize].lock().unwrap(), vcpu) {
            self.upcall[vcpu.0 as usize].store(true, SeqCst);
        }
    }

    fn upcall(&self, vcpu: usize, heads: &mut Heads) {
        if !self.upcall[vcpu].swap(false, SeqCst) {
            return;
        }
        let block = &self.control[vcpu];
        let mut ready = block[0].0.swap(0, SeqCst);
        let mut taken = 0;
        while ready != 0 {
            let priority = ready.trailing_zeros() as usize;
            let head = &mut heads[priority];
            let port = if *head == 0 { block[2 + priority].load() } else { *head };
            *head = self.take(port);
            if *head == 0 {
                ready &= !(1 << priority);
            }
            ready |= block[0].0.swap(0, SeqCst);
            taken += 1;
            assert!(taken < 100, "a queue without end");
        }
    }

    /// Takes a port from a queue; the one behind it.
    fn take(&self, port: u32) -> u32 {
        let word = &self.words[port as usize].0;
        let was = word.fetch_update(SeqCst, SeqCst, |now| Some(now & !(LINKED | EVTCHN_FIFO_LINK_MASK))).unwrap();
        assert_ne!(was & LINKED, 0, "port {port} is in a queue");
        if was & (PENDING | MASKED) == PENDING {
            word.fetch_and(!PENDING, SeqCst);
            let sent = self.sent[port as usize].load(SeqCst);
            self.seen[port as usize].fetch_max(sent, SeqCst);
        }
        was & EVTCHN_FIFO_LINK_MASK
    }
}

fn run() {
    let domain = Arc::new(Domain::new());
    let senders = [[1, 2, 1, 3], [2, 1, 3, 1]].map(|ports| {
        let domain = domain.clone();
        thread::spawn(move || {
            for (n, port) in (0..).zip(ports) {
                domain.send(port);
                if ports[0] == 2 {
                    domain.vcpu[1].store(n % 2, SeqCst);
                    domain.places[2].lock().unwrap().set_priority(7 - (n % 2) as u8);
                }
            }
        })
    });
    let vcpus = [0, 1].map(|vcpu| {
        let domain = domain.clone();
        thread::spawn(move || {
            let mut heads = [0; 16];
            (0..3).for_each(|_| domain.upcall(vcpu, &mut heads));
            heads
        })
    });
    senders.into_iter().for_each(|thread| thread.join().unwrap());
    for (vcpu, thread) in (0..).zip(vcpus) {
        let mut heads = thread.join().unwrap();
        domain.upcall(vcpu, &mut heads);
    }
    for port in 1..PORTS {
        let (sent, seen) = (domain.sent[port].load(SeqCst), domain.seen[port].load(SeqCst));
        assert_eq!(sent, seen, "an event of port {port} was lost");
        assert_eq!(domain.words[port].load(), 0, "port {port} is not pending, and in no queue");
    }
}

#[test]
fn no_interleaving_loses_an_event() {
    shuttle::check_random(run, 2_000);
    shuttle::check_pct(run, 1_000, 3);
}
