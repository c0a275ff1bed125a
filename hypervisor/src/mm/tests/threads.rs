//! Four vCPUs of one domain as four threads, on the same frame table at the same time: the compare-exchange loops get
//! the interleavings that step-by-step tests can't give them. Everything is counted when all have stopped.

use std::sync::Mutex;
use std::thread;
use std::vec::Vec;

use super::machine::{Machine, Memory};
use super::model::Model;
use crate::addr::{CpuId, DomainId, Mfn};
use crate::mm::buddy::FrameAllocator;
use crate::mm::error::Stop;
use crate::mm::flush::CpuSet;
use crate::mm::operation::Operation;
use crate::mm::owner::DomainFrames;
use crate::mm::root::{Mode, Roots};
use crate::mm::state::Level;
use crate::mm::update::{Change, Slot};
use crate::mm::validate::Pending;

const CALLS: u32 = 8_000;
const FRAMES: u64 = 24;
const DOMAIN: DomainId = DomainId(1);

struct Shared {
    machine: Machine<false>,
    owner: Mutex<(FrameAllocator, DomainFrames)>,
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % below
    }
}

/// The level that a frame mostly is a table of; 0: data.
fn part(mfn: Mfn) -> u64 {
    mfn.0 % 6 % 5
}

fn level(number: u64) -> Level {
    [Level::L1, Level::L2, Level::L3, Level::L4][number as usize % 4]
}

/// One thread: a vCPU that makes random calls.
fn vcpu(shared: &Shared, cpu: u32, seed: u64) -> (Pending, Roots) {
    let mut random = Random(seed | 1);
    let (mut pending, mut roots) = (Pending::new(), Roots::default());
    for _ in 0..CALLS {
        let page = Mfn(10 + random.next(FRAMES));
        let budget = if random.next(3) == 0 { random.next(20) as u32 } else { 1000 };
        let choice = random.next(16);
        let child =
            Mfn(10 + (0..6).map(|_| random.next(FRAMES)).find(|n| part(Mfn(10 + n)) + 1 == part(page)).unwrap_or(0));
        let value = child.0 << 12 | random.next(4);
        let slot = Slot { page, index: random.next(8) as usize };
        perform(shared, cpu, &mut pending, budget, |op| match choice {
            0..8 => op.update(slot, value, Change::Set, DOMAIN).map(drop),
            8..11 => op.pin(page, level(part(page).wrapping_sub(1))),
            11..13 => op.unpin(page),
            13 => op.drain(),
            14 => {
                if let Some(old) =
                    op.set_root(&mut roots, Mode::Kernel, Some(page).filter(|_| value & 1 != 0), false)?
                {
                    op.drop_root(old);
                }
                Ok(())
            }
            _ => {
                op.take_writable(page, DOMAIN)?;
                op.put_writable(page);
                Ok(())
            }
        });
    }
    (pending, roots)
}

fn perform(
    shared: &Shared,
    cpu: u32,
    pending: &mut Pending,
    budget: u32,
    mut rules: impl FnMut(&mut Operation<'_, Memory<false>>) -> Result<(), Stop>,
) {
    let mmu = shared.machine.mmu();
    let mut op = Operation::new(&mmu, shared.machine.space(1), pending, budget);
    for _ in 0..20 {
        match rules(&mut op) {
            Err(Stop::Flush(cpus)) => {
                for other in cpus.union(CpuSet::only(CpuId(cpu))).iter() {
                    let ticket = shared.machine.clock.begin();
                    shared.machine.clock.done(other, ticket);
                }
            }
            _ => break,
        }
    }
    retire(shared, &mut op);
}

fn retire(shared: &Shared, op: &mut Operation<'_, Memory<false>>) {
    if op.freed.is_empty() {
        return;
    }
    let (allocator, frames) = &mut *shared.owner.lock().unwrap();
    for mfn in op.freed.drain(..) {
        frames.retire(&shared.machine.table(), &shared.machine.clock, &shared.machine.memory, allocator, mfn);
    }
}

#[test]
fn real_threads_keep_the_counts_exact() {
    let machine = Machine::new(10 + FRAMES, 4);
    let (mut allocator, mut frames) = (FrameAllocator::new(), DomainFrames::new(DOMAIN));
    allocator.add_range(&machine.table(), Mfn(10), FRAMES);
    for _ in 0..FRAMES {
        let block = allocator.alloc(&machine.table(), 0).unwrap();
        frames.assign(&machine.table(), block.mfn);
    }
    (0..4).for_each(|cpu| machine.translations[1].insert(CpuId(cpu)));
    let shared = Shared { machine, owner: Mutex::new((allocator, frames)) };
    let seed = super::seed();
    let mut vcpus: Vec<_> = thread::scope(|scope| {
        let shared = &shared;
        let spawn = |cpu| scope.spawn(move || vcpu(shared, cpu, seed.wrapping_add(u64::from(cpu) * 0x9e37_79b9)));
        (0..4).map(spawn).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    check(&shared, &vcpus);
    bury(&shared, &mut vcpus);
    let (allocator, frames) = &*shared.owner.lock().unwrap();
    assert!(frames.is_empty());
    assert_eq!(allocator.free_frames(), allocator.total_frames());
}

fn check(shared: &Shared, vcpus: &[(Pending, Roots)]) {
    let mut model = Model::new(&shared.machine);
    vcpus.iter().for_each(|(pending, roots)| model.vcpu(pending, roots));
    for n in 10..10 + FRAMES {
        let state = shared.machine.table().known(Mfn(n)).state();
        if state.has_allocation() {
            model.reference(Mfn(n));
        }
        if state.is_pinned() {
            model.type_reference(Mfn(n), state.frame_type());
        }
    }
    model.check();
}

fn bury(shared: &Shared, vcpus: &mut [(Pending, Roots)]) {
    let mmu = shared.machine.mmu();
    for (pending, roots) in vcpus.iter_mut() {
        let mut op = Operation::new(&mmu, shared.machine.space(1), pending, u32::MAX);
        op.give_up().unwrap();
        op.drop_roots(roots).unwrap();
        op.drain().unwrap();
        assert!(op.freed.is_empty());
    }
    for _ in 0..FRAMES {
        let mut op = Operation::new(&mmu, shared.machine.space(1), &mut vcpus[0].0, u32::MAX);
        let result = op.tear_down(&mut shared.owner.lock().unwrap().1);
        retire(shared, &mut op);
        if result == Ok(()) {
            return;
        }
    }
    panic!("the domain does not die");
}
