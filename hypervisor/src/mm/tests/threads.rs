//! Four vCPUs of two domains as four threads, on the same frame table at the same time: the compare-exchange loops get
//! the interleavings that step-by-step tests can't give them. Frames also change hands between the domains. Everything
//! is counted when all have stopped.

use std::sync::Mutex;
use std::thread;
use std::vec::Vec;

use super::Random;
use super::machine::{DOMAINS, Machine, Memory};
use super::model::Model;
use crate::addr::{CpuId, DomainId, Mfn};
use crate::mm::buddy::FrameAllocator;
use crate::mm::error::Stop;
use crate::mm::flush::CpuSet;
use crate::mm::operation::Operation;
use crate::mm::owner::DomainFrames;
use crate::mm::pending::Pending;
use crate::mm::root::{Mode, Roots};
use crate::mm::state::Level;
use crate::mm::update::{Change, Slot};

const CALLS: u32 = 50_000;
const FRAMES: u64 = 36;
const VCPUS: usize = 4;

struct Shared {
    machine: Machine<false>,
    owners: Mutex<Owners>,
}

struct Owners {
    allocator: FrameAllocator,
    domains: [DomainFrames; DOMAINS],
}

const fn domain_of(cpu: usize) -> usize {
    cpu % DOMAINS
}

impl Shared {
    /// Gives a domain one frame, if there is one.
    fn populate(&self, domain: usize) {
        let Owners { allocator, domains } = &mut *self.owners.lock().unwrap();
        if let Some(block) = allocator.alloc(&self.machine.table(), 0) {
            self.flush(self.machine.clock.stale(block.last_use, self.machine.online()));
            self.machine.memory.clear(block.mfn);
            domains[domain].assign(&self.machine.table(), block.mfn);
        }
    }

    fn flush(&self, cpus: CpuSet) {
        for cpu in cpus.iter() {
            let ticket = self.machine.clock.begin();
            self.machine.clock.done(cpu, ticket);
        }
    }

    fn retire(&self, op: &mut Operation<'_, Memory<false>>) {
        if op.pending.freed.is_empty() {
            return;
        }
        let (table, Owners { allocator, domains }) = (self.machine.table(), &mut *self.owners.lock().unwrap());
        for mfn in op.pending.freed.drain(..) {
            let owner = table.known(mfn).owner().expect("a domain's frame");
            let frames = &mut domains[usize::from(owner.0)];
            frames.retire(&table, &self.machine.clock, &self.machine.memory, allocator, mfn);
        }
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
fn vcpu(shared: &Shared, cpu: usize, seed: u64) -> (Pending, Roots) {
    let mut random = Random::new(seed);
    let (mut pending, mut roots) = (Pending::new(), Roots::default());
    let (domain, id) = (domain_of(cpu), DomainId(domain_of(cpu) as u16));
    for _ in 0..CALLS {
        let page = Mfn(10 + random.next(FRAMES));
        let child = (0..6).map(|_| Mfn(10 + random.next(FRAMES))).find(|child| part(*child) + 1 == part(page));
        let value = child.map_or(0, |child| child.0 << 12 | random.next(4));
        let slot = Slot { page, index: random.next(8) as usize };
        let budget = if random.next(3) == 0 { random.next(20) as u32 } else { 1000 };
        let choice = random.next(20);
        perform(shared, cpu, &mut pending, budget, |op| match choice {
            0..8 => op.update(slot, value, Change::Set, id),
            8..11 => op.pin(page, level(part(page).wrapping_sub(1))),
            11..13 => op.unpin(page),
            13 => op.drain(),
            14 => {
                let root = Some(page).filter(|_| value & 1 != 0);
                if let Some(old) = op.set_root(&mut roots, Mode::Kernel, root, false)? {
                    op.drop_root(old);
                }
                Ok(())
            }
            15 => {
                op.take_writable(page, id)?;
                op.put_writable(page);
                Ok(())
            }
            // As for a grant: any domain's page.
            16 => {
                op.reference(page, DomainId((value & 1) as u16))?;
                op.put(page);
                Ok(())
            }
            17 => op.give_back(&mut shared.owners.lock().unwrap().domains[domain], page),
            _ => {
                shared.populate(domain);
                Ok(())
            }
        });
    }
    (pending, roots)
}

fn perform(
    shared: &Shared,
    cpu: usize,
    pending: &mut Pending,
    budget: u32,
    mut rules: impl FnMut(&mut Operation<'_, Memory<false>>) -> Result<(), Stop>,
) {
    let mmu = shared.machine.mmu();
    let mut op = Operation::new(&mmu, shared.machine.space(domain_of(cpu)), pending, budget);
    for _ in 0..20 {
        match rules(&mut op) {
            Err(Stop::Flush(cpus)) => shared.flush(cpus),
            _ => break,
        }
    }
    shared.retire(&mut op);
}

#[test]
fn real_threads_keep_the_counts_exact() {
    let machine = Machine::new(10 + FRAMES, VCPUS as u32);
    let mut allocator = FrameAllocator::new();
    allocator.add_range(&machine.table(), Mfn(10), FRAMES);
    for cpu in 0..VCPUS {
        machine.translations[domain_of(cpu)].insert(CpuId(cpu as u32));
    }
    let domains = [0, 1].map(|id| DomainFrames::new(DomainId(id)));
    let shared = Shared { machine, owners: Mutex::new(Owners { allocator, domains }) };
    (0..30).for_each(|n| shared.populate(n % DOMAINS));
    let seed = super::seed();
    let mut vcpus: Vec<_> = thread::scope(|scope| {
        let shared = &shared;
        let spawn = |cpu| scope.spawn(move || vcpu(shared, cpu, seed.wrapping_add(cpu as u64 * 0x9e37_79b9)));
        (0..VCPUS).map(spawn).collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    check(&shared, &vcpus);
    (0..VCPUS).for_each(|cpu| bury(&shared, cpu, &mut vcpus[cpu]));
    (0..DOMAINS).for_each(|cpu| tear_down(&shared, cpu, &mut vcpus[cpu].0));
    let Owners { allocator, domains } = &*shared.owners.lock().unwrap();
    assert!(domains.iter().all(DomainFrames::is_empty));
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

/// A vCPU lets go of all it has.
fn bury(shared: &Shared, cpu: usize, (pending, roots): &mut (Pending, Roots)) {
    let mmu = shared.machine.mmu();
    let mut op = Operation::new(&mmu, shared.machine.space(domain_of(cpu)), pending, u32::MAX);
    op.give_up().unwrap();
    op.drop_roots(roots).unwrap();
    op.drain().unwrap();
    shared.retire(&mut op);
}

fn tear_down(shared: &Shared, cpu: usize, pending: &mut Pending) {
    let mmu = shared.machine.mmu();
    for _ in 0..FRAMES {
        let mut op = Operation::new(&mmu, shared.machine.space(domain_of(cpu)), pending, u32::MAX);
        let result = op.tear_down(&mut shared.owners.lock().unwrap().domains[domain_of(cpu)]);
        shared.retire(&mut op);
        if result == Ok(()) {
            return;
        }
    }
    panic!("the domain does not die");
}
