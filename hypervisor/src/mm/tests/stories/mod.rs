//! One published attack, or one rule, per test, on one domain with a few frames.
//!
//! * `attacks`: what a guest tries, and what stops it.
//! * `interrupted`: work that is cut short at every possible point.
//! * `updates`: what single-entry updates do and leave alone.

mod attacks;
mod interrupted;
mod updates;

use super::machine::{Machine, Memory};
use super::model::Model;
use crate::addr::{CpuId, DomainId, Mfn};
use crate::mm::buddy::FrameAllocator;
use crate::mm::error::{Refusal, Stop};
use crate::mm::flush::CpuSet;
use crate::mm::operation::{Operation, PageTableMem};
use crate::mm::owner::DomainFrames;
use crate::mm::pending::Pending;
use crate::mm::root::Roots;
use crate::mm::state::{Level, State};
use crate::mm::update::{Change, Changed, Slot};

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const UNLIMITED: u32 = 1_000_000;
const OWN: DomainId = DomainId(1);
const DATA: Mfn = Mfn(20);
const L1: Mfn = Mfn(21);
const L2: Mfn = Mfn(22);
const L3: Mfn = Mfn(23);
const L4: Mfn = Mfn(24);
const SPARE: Mfn = Mfn(25);

/// Domain 1 with frames 20 to 31, and domain 0 with frames 32 to 35.
struct Bench {
    machine: Machine<false>,
    allocator: FrameAllocator,
    frames: DomainFrames,
    pending: Pending,
}

impl Bench {
    fn new() -> Bench {
        let machine = Machine::new(40, 2);
        let (mut allocator, mut frames) = (FrameAllocator::new(), DomainFrames::new(OWN));
        let mut neighbour = DomainFrames::new(DomainId(0));
        allocator.add_range(&machine.table(), Mfn(20), 16);
        for _ in 0..16 {
            let block = allocator.alloc(&machine.table(), 0).unwrap();
            if block.mfn.0 < 32 { &mut frames } else { &mut neighbour }.assign(&machine.table(), block.mfn);
        }
        machine.translations[1].insert(CpuId(0));
        Bench { machine, allocator, frames, pending: Pending::new() }
    }

    /// Carries out one call of the rules; flushes as asked and calls again, if `flush`.
    fn call<T>(
        &mut self,
        budget: u32,
        mut rules: impl FnMut(&mut Operation<'_, Memory<false>>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        loop {
            let result = self.once(budget, &mut rules);
            match result {
                Err(Stop::Flush(cpus)) => self.flush(cpus),
                result => return result,
            }
        }
    }

    fn once<T>(
        &mut self,
        budget: u32,
        mut rules: impl FnMut(&mut Operation<'_, Memory<false>>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.on_frames(budget, |op, _| rules(op))
    }

    /// The same for rules that change the domain's lists of frames.
    fn on_frames<T>(
        &mut self,
        budget: u32,
        rules: impl FnOnce(&mut Operation<'_, Memory<false>>, &mut DomainFrames) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let mmu = self.machine.mmu();
        let mut op = Operation::new(&mmu, self.machine.space(1), &mut self.pending, budget);
        let result = rules(&mut op, &mut self.frames);
        for mfn in self.pending.freed.drain(..) {
            let (table, memory) = (self.machine.table(), &self.machine.memory);
            self.frames.retire(&table, &self.machine.clock, memory, &mut self.allocator, mfn);
        }
        result
    }

    fn give_back(&mut self, mfn: Mfn) -> Result<(), Stop> {
        self.on_frames(UNLIMITED, |op, frames| op.give_back(frames, mfn))
    }

    fn flush(&self, cpus: CpuSet) {
        for cpu in cpus.iter() {
            let ticket = self.machine.clock.begin();
            self.machine.clock.done(cpu, ticket);
        }
    }

    /// Stores an entry in a page, whatever it is.
    fn set(&mut self, page: Mfn, index: usize, value: u64) -> Result<(), Stop> {
        self.call(UNLIMITED, |op| op.update(Slot { page, index }, value, Change::Set, OWN))
    }

    fn pin(&mut self, mfn: Mfn, level: Level) -> Result<(), Stop> {
        self.call(UNLIMITED, |op| op.pin(mfn, level))
    }

    /// Unpins, and takes apart what that leaves unused.
    fn unpin(&mut self, mfn: Mfn) {
        self.call(UNLIMITED, |op| op.unpin(mfn)).unwrap();
        self.call(UNLIMITED, |op| op.drain()).unwrap();
    }

    /// Links the four tables to map the data page, in the last slots, with nothing typed yet.
    fn build_tree(&mut self) {
        for (table, child) in [(L1, DATA), (L2, L1), (L3, L2), (L4, L3)] {
            self.set(table, 7, entry(child, P | RW)).unwrap();
        }
    }

    fn state(&self, mfn: Mfn) -> State {
        self.machine.table().known(mfn).state()
    }

    fn read(&self, page: Mfn, index: usize) -> u64 {
        self.machine.memory.read(page, index)
    }

    /// Nobody but tables, pins and the domain's allocation refers to anything; everything adds up.
    fn check(&self, pins: &[Mfn]) {
        let mut model = Model::new(&self.machine);
        model.vcpu(&self.pending, &Roots::default());
        for n in 20..36 {
            if self.state(Mfn(n)).has_allocation() {
                model.reference(Mfn(n));
            }
        }
        pins.iter().for_each(|&mfn| model.type_reference(mfn, self.state(mfn).frame_type()));
        model.check();
    }
}

fn entry(mfn: Mfn, flags: u64) -> u64 {
    mfn.0 << 12 | flags
}

/// The reason of a refusal.
fn why<T: core::fmt::Debug>(result: Result<T, Stop>) -> Refusal {
    match result {
        Err(Stop::Refused(refused)) => refused.why,
        other => panic!("not refused: {other:?}"),
    }
}
