//! A machine of many CPUs on virtual time, which runs the scheduler as `system` does: each CPU looks at its queue when
//! its timer fires, when it is kicked, and when its vCPU goes to sleep. Nothing here decides; it counts.

mod bars;
mod load;
mod report;

use core::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::vec::Vec;

use self::load::{Dice, Load};
use super::account::Account;
use super::board::Board;
use super::queue::{Entity, RunQueue, Woken};
use super::share::Share;
use crate::addr::CpuId;
use crate::mm::flush::{AtomicCpuSet, CpuSet};

/// Until another CPU takes notice of a kick, in nanoseconds.
const KICK_DELAY: u64 = 5_000;

/// A domain to simulate.
#[derive(Clone, Debug)]
struct Domain {
    weight: u16,
    cap: u16,
    vcpus: u32,
    load: Load,
    /// The CPUs it may use, and whether they are its own.
    pinned: Option<(CpuSet, bool)>,
}

impl Domain {
    /// With no cap, on all CPUs.
    fn new(weight: u16, vcpus: u32, load: Load) -> Domain {
        Domain { weight, cap: 0, vcpus, load, pinned: None }
    }

    fn capped(self, cap: u16) -> Domain {
        Domain { cap, ..self }
    }

    fn pinned(self, cpus: CpuSet, dedicated: bool) -> Domain {
        Domain { pinned: Some((cpus, dedicated)), ..self }
    }
}

/// A vCPU, as much as the queues hold of it.
struct Vcpu {
    id: usize,
    account: Account,
    /// What it still does before it sleeps.
    left: u64,
}

impl Entity for Vcpu {
    type Key = usize;

    fn key(&self) -> usize {
        self.id
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }
}

/// What is known of a vCPU wherever it is.
struct Record {
    domain: usize,
    affinity: Arc<AtomicCpuSet>,
    load: Load,
    cpu: usize,
    ran: u64,
    /// Since when it waits, and whether it slept before.
    waits: Option<(u64, bool)>,
    longest_wait: u64,
}

/// A CPU.
struct Cpu {
    queue: RunQueue<Vcpu>,
    current: Option<Vcpu>,
    /// Up to when the current vCPU's work has been counted.
    counted: u64,
    /// Number of the latest setting of its timer; earlier ones don't count.
    timer: u64,
    previous: Option<usize>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Event {
    Timer(usize, u64),
    Kick(usize),
    /// An event for a sleeping vCPU.
    Wake(usize),
}

fn number(cpu: usize) -> CpuId {
    CpuId(u32::try_from(cpu).expect("there are at most 64"))
}

/// The machine.
struct Simulator {
    now: u64,
    board: Board,
    cpus: Vec<Cpu>,
    records: Vec<Record>,
    /// Each domain's.
    shares: Vec<Arc<Share>>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    dice: Dice,
    switches: u64,
    moves: u64,
    /// Nanoseconds from each wake-up to the first instruction.
    latencies: Vec<u64>,
}

impl Simulator {
    fn new(cpus: u32, domains: &[Domain], seed: u64) -> Simulator {
        let vcpus = domains.iter().map(|domain| domain.vcpus as usize).sum();
        let mut simulator = Simulator {
            now: 0,
            board: Board::new(),
            cpus: (0..cpus)
                .map(|cpu| {
                    let mut queue = RunQueue::new(CpuId(cpu));
                    queue.reserve(vcpus);
                    Cpu { queue, current: None, counted: 0, timer: 0, previous: None }
                })
                .collect(),
            records: Vec::new(),
            shares: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            dice: Dice::new(seed),
            switches: 0,
            moves: 0,
            latencies: Vec::new(),
        };
        for domain in domains {
            if let Some((cpus, true)) = domain.pinned {
                simulator.board.dedicate(cpus);
            }
        }
        for (index, domain) in domains.iter().enumerate() {
            simulator.add(index, domain, cpus);
        }
        (0..cpus as usize).for_each(|cpu| simulator.at(0, Event::Kick(cpu)));
        simulator
    }

    /// Adds a domain's vCPUs, each on some CPU that it may use.
    fn add(&mut self, index: usize, domain: &Domain, cpus: u32) {
        let share = Arc::new(Share::new(domain.weight, domain.cap));
        self.shares.push(share.clone());
        let free = CpuSet::first(cpus).difference(self.board.dedicated());
        let allowed = domain.pinned.map_or(free, |(cpus, _)| cpus);
        let places: Vec<CpuId> = allowed.iter().collect();
        for number in 0..domain.vcpus as usize {
            let (cpu, allowed) = match domain.pinned {
                Some((_, true)) => (places[number], CpuSet::only(places[number])),
                _ => (places[self.dice.index(places.len())], allowed),
            };
            let id = self.records.len();
            let load = domain.load;
            let left = load.work(&mut self.dice);
            let affinity = Arc::new(AtomicCpuSet::new());
            affinity.store(allowed);
            let vcpu = Vcpu { id, account: Account::new(share.clone(), affinity.clone()), left };
            let cpu = cpu.0 as usize;
            let waits = Some((0, false));
            self.records.push(Record { domain: index, affinity, load, cpu, ran: 0, waits, longest_wait: 0 });
            self.cpus[cpu].queue.admit(vcpu, 0, &self.board);
        }
    }

    /// What a domain may have of the CPUs becomes this.
    fn reschedule(&mut self, domain: usize, weight: u16, cap: u16, allowed: CpuSet) {
        self.shares[domain].set_weight(weight);
        self.shares[domain].set_cap(cap);
        let its = self.records.iter().filter(|record| record.domain == domain);
        its.for_each(|record| record.affinity.store(allowed));
        (0..self.cpus.len()).for_each(|cpu| {
            if self.cpus[cpu].current.as_ref().is_some_and(|vcpu| self.records[vcpu.id].domain == domain) {
                self.kick(cpu);
            }
        });
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn kick(&mut self, cpu: usize) {
        self.at(self.now + KICK_DELAY, Event::Kick(cpu));
    }

    /// Runs until `end`, and counts everything up to there.
    fn run_until(&mut self, end: u64) {
        while let Some(&Reverse((time, _, event))) = self.events.peek().filter(|Reverse((time, ..))| *time <= end) {
            self.events.pop();
            self.now = time;
            match event {
                Event::Timer(cpu, timer) if self.cpus[cpu].timer == timer => self.look(cpu),
                Event::Timer(..) => {}
                Event::Kick(cpu) => self.look(cpu),
                Event::Wake(vcpu) => self.wake(vcpu),
            }
        }
        self.now = end;
        (0..self.cpus.len()).for_each(|cpu| self.count(cpu));
    }

    fn wake(&mut self, id: usize) {
        let (now, cpu) = (self.now, self.records[id].cpu);
        let kicked = match self.cpus[cpu].queue.wake(id, now, &self.board) {
            Woken::NotHere => panic!("vCPU {id} is lost"),
            Woken::Here { kick: true } => Some(cpu),
            Woken::Here { kick: false } => {
                self.cpus[cpu].queue.helper(now, &self.board).map(|helper| helper.0 as usize)
            }
            Woken::Moves(vcpu, CpuId(to)) => {
                self.admit(vcpu, to as usize);
                Some(to as usize)
            }
        };
        self.records[id].waits = Some((now, true));
        kicked.into_iter().for_each(|cpu| self.kick(cpu));
    }

    fn admit(&mut self, vcpu: Vcpu, to: usize) {
        self.moves += 1;
        self.records[vcpu.id].cpu = to;
        self.cpus[to].queue.admit(vcpu, self.now, &self.board);
    }

    /// Counts what the current vCPU has done.
    fn count(&mut self, cpu: usize) {
        let Cpu { current, counted, .. } = &mut self.cpus[cpu];
        let passed = self.now - core::mem::replace(counted, self.now);
        if let Some(vcpu) = current {
            vcpu.left = vcpu.left.saturating_sub(passed);
            self.records[vcpu.id].ran += passed;
        }
    }

    /// What a CPU does when it looks around.
    fn look(&mut self, cpu: usize) {
        let now = self.now;
        self.count(cpu);
        self.move_if_not_allowed(cpu);
        self.finish_work(cpu);
        let Simulator { cpus, board, records, .. } = self;
        cpus[cpu].queue.expire(now, board, |vcpu| records[vcpu.id].waits = Some((now, true)));
        self.steal(cpu);
        let Cpu { queue, current, .. } = &mut self.cpus[cpu];
        if current.as_ref().is_some_and(|vcpu| queue.must_leave(&vcpu.account, now)) {
            self.put_back(cpu, false);
        }
        while self.cpus[cpu].current.is_none() {
            match self.cpus[cpu].queue.pick(now, &self.board) {
                Some(vcpu) => {
                    self.enter(cpu, vcpu);
                    self.move_if_not_allowed(cpu);
                }
                None if self.steal(cpu) => {}
                None => break,
            }
        }
        if let Some(helper) = self.cpus[cpu].queue.helper(now, &self.board) {
            self.kick(helper.0 as usize);
        }
        let work_end = self.cpus[cpu].current.as_ref().map(|vcpu| now.saturating_add(vcpu.left));
        let deadline = [self.cpus[cpu].queue.next_deadline(), work_end].into_iter().flatten().min();
        self.cpus[cpu].timer += 1;
        if let Some(deadline) = deadline.filter(|&deadline| deadline < u64::MAX) {
            let timer = self.cpus[cpu].timer;
            self.at(deadline.max(now), Event::Timer(cpu, timer));
        }
    }

    /// The current vCPU goes elsewhere if it may not use the CPU any more.
    fn move_if_not_allowed(&mut self, cpu: usize) {
        let here = number(cpu);
        let Some(mut vcpu) = self.cpus[cpu].current.take_if(|vcpu| !vcpu.account.allowed().contains(here)) else {
            return;
        };
        self.cpus[cpu].queue.dismiss(&mut vcpu, self.now, &self.board);
        let to = self.board.place(here, vcpu.account.allowed(), vcpu.id).0 as usize;
        self.records[vcpu.id].waits.get_or_insert((self.now, false));
        self.admit(vcpu, to);
        self.kick(to);
    }

    /// The current vCPU sleeps or yields if it has done its work.
    fn finish_work(&mut self, cpu: usize) {
        let Some(mut vcpu) = self.cpus[cpu].current.take_if(|vcpu| vcpu.left == 0) else { return };
        let (id, load) = (vcpu.id, self.records[vcpu.id].load);
        vcpu.left = load.work(&mut self.dice);
        if load == Load::Yielding {
            self.cpus[cpu].current = Some(vcpu);
            if self.cpus[cpu].queue.has_ready() {
                self.put_back(cpu, true);
            }
            return;
        }
        let until = self.now + load.pause(&mut self.dice);
        let by_timer = self.dice.below(2) == 0;
        self.cpus[cpu].queue.sleep(vcpu, by_timer.then_some(until), self.now, &self.board);
        if !by_timer {
            self.at(until, Event::Wake(id));
        }
    }

    fn put_back(&mut self, cpu: usize, yields: bool) {
        let Some(vcpu) = self.cpus[cpu].current.take() else { return };
        self.records[vcpu.id].waits = Some((self.now, false));
        self.cpus[cpu].queue.put_back(vcpu, yields, self.now, &self.board);
    }

    fn steal(&mut self, cpu: usize) -> bool {
        let Some((victim, limit)) = self.cpus[cpu].queue.victim(self.now, &self.board) else { return false };
        let from = &mut self.cpus[victim.0 as usize].queue;
        let stolen: Option<Vcpu> = from.give(number(cpu), limit, self.now, &self.board);
        let found = stolen.is_some();
        stolen.into_iter().for_each(|vcpu| self.admit(vcpu, cpu));
        found
    }

    fn enter(&mut self, cpu: usize, vcpu: Vcpu) {
        let record = &mut self.records[vcpu.id];
        assert_eq!(record.cpu, cpu);
        if let Some((since, slept)) = record.waits.take() {
            let wait = self.now - since;
            record.longest_wait = record.longest_wait.max(wait);
            if slept {
                self.latencies.push(wait);
            }
        }
        let this = &mut self.cpus[cpu];
        self.switches += u64::from(this.previous.replace(vcpu.id) != Some(vcpu.id));
        this.counted = self.now;
        this.current = Some(vcpu);
    }
}
