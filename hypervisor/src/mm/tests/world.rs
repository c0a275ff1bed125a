//! Domains and vCPUs on the made-up machine. Each step is a bounded part of a hypercall, as the budget cuts it, so
//! steps of different vCPUs interleave; after each one everything is counted again.

use core::mem;
use std::collections::BTreeSet;
use std::vec::Vec;

use super::machine::{DOMAINS, Machine, Memory, Tlb};
use super::model::{self, Model};
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, Pfn};
use crate::mm::buddy::FrameAllocator;
use crate::mm::entry::Entry;
use crate::mm::error::Stop;
use crate::mm::flush::CpuSet;
use crate::mm::m2p::{self, INVALID_ENTRY};
use crate::mm::operation::{Freed, Operation, PageTableMem};
use crate::mm::owner::DomainFrames;
use crate::mm::pending::Pending;
use crate::mm::root::{Mode, Roots};
use crate::mm::state::{FrameType, Level};
use crate::mm::update::{Change, Slot};
use crate::mm::walk::Access;

/// vCPU n belongs to domain n / 2.
pub const VCPUS: usize = 2 * DOMAINS;
/// Frames a domain starts with.
const DOMAIN_FRAMES: usize = 16;

/// One hypercall with its arguments.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Update { slot: Slot, value: u64, change: Change, page_owner: usize },
    UpdateL1 { slot: Slot, value: u64 },
    Pin { mfn: Mfn, level: Level },
    Unpin { mfn: Mfn },
    SetRoot { mode: Mode, root: Option<Mfn> },
    TakeDescriptors { mfn: Mfn },
    UpdateDescriptor { slot: Slot, value: u64 },
    TakeWritable { mfn: Mfn, owner: usize },
    Reference { mfn: Mfn, owner: usize },
    GiveBack { mfn: Mfn },
    Reclaim { mfn: Mfn },
    Find { address: GuestVa },
    Allows { address: GuestVa, access: Access },
    Drain,
}

/// A reference that a module outside `mm` would hold: a grant, a descriptor table, a shared structure.
#[derive(Clone, Copy, Debug)]
pub enum Hold {
    Page(Mfn),
    Typed(Mfn, FrameType),
}

/// How the caller of the rules behaves in one step.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub budget: u32,
    /// Whether it carries out the flushes it is asked for, or comes back without.
    pub flushes: bool,
}

#[derive(Default)]
struct Vcpu {
    pending: Pending,
    roots: Roots,
    /// The hypercall that has to be called again.
    unfinished: Option<Call>,
    holds: Vec<Hold>,
}

struct Domain {
    frames: DomainFrames,
    allocated: BTreeSet<Mfn>,
    pins: BTreeSet<Mfn>,
    dying: bool,
}

#[derive(Default)]
struct Cpu {
    tlb: Tlb,
    running: Option<usize>,
}

pub struct World<'a, const REAL: bool> {
    machine: &'a Machine<REAL>,
    allocator: FrameAllocator,
    domains: Vec<Domain>,
    vcpus: Vec<Vcpu>,
    cpus: Vec<Cpu>,
    pub calls_done: u64,
    pub calls_refused: u64,
    /// Walks that got to L1, and accesses that were allowed.
    pub walks_done: u64,
    pub guests_entered: u64,
}

pub const fn domain_of(vcpu: usize) -> usize {
    vcpu / 2
}

impl<'a, const REAL: bool> World<'a, REAL> {
    pub fn new(machine: &'a Machine<REAL>) -> World<'a, REAL> {
        let mut allocator = FrameAllocator::new();
        allocator.add_range(&machine.table(), Mfn(1), 8);
        allocator.add_range(&machine.table(), Mfn(10), machine.frames.len() as u64 - 10);
        let domain = |id| Domain {
            frames: DomainFrames::new(DomainId(id)),
            allocated: BTreeSet::new(),
            pins: BTreeSet::new(),
            dying: false,
        };
        let mut world = World {
            machine,
            allocator,
            domains: (0..DOMAINS as u16).map(domain).collect(),
            vcpus: (0..VCPUS).map(|_| Vcpu::default()).collect(),
            cpus: (0..machine.cpus).map(|_| Cpu::default()).collect(),
            calls_done: 0,
            calls_refused: 0,
            walks_done: 0,
            guests_entered: 0,
        };
        (0..DOMAINS).for_each(|domain| world.start(domain));
        world
    }

    pub fn frames_of(&self, domain: usize) -> impl Iterator<Item = Mfn> + Clone {
        self.domains[domain].allocated.iter().copied()
    }

    pub fn roots(&self, vcpu: usize) -> Roots {
        self.vcpus[vcpu].roots
    }

    /// The frame that an entry names, if it is present and RAM.
    pub fn names(&self, table: Mfn, index: usize) -> Option<Mfn> {
        let entry = Entry(self.machine.memory.read(table, index));
        Some(entry.frame()).filter(|&mfn| entry.is_present() && !self.machine.table().is_device(mfn))
    }

    fn start(&mut self, domain: usize) {
        for _ in 0..DOMAIN_FRAMES {
            self.populate(domain);
        }
    }

    /// Gives a domain one frame: flushed, scrubbed and in the machine-to-phys table.
    pub fn populate(&mut self, domain: usize) {
        let table = self.machine.table();
        if self.domains[domain].dying || self.domains[domain].allocated.len() >= 2 * DOMAIN_FRAMES {
            return;
        }
        let Some(block) = self.allocator.alloc(&table, 0) else { return };
        self.flush(self.machine.clock.stale(block.last_use, self.machine.online()));
        if block.dirty {
            self.machine.memory.clear(block.mfn);
        }
        let owner = &mut self.domains[domain];
        owner.frames.assign(&table, block.mfn);
        m2p::set(&self.machine.memory, block.mfn, Pfn(owner.allocated.len() as u64));
        owner.allocated.insert(block.mfn);
    }

    fn flush(&mut self, cpus: CpuSet) {
        for CpuId(cpu) in cpus.iter() {
            self.cpus[cpu as usize].tlb.flush(self.machine, cpu);
        }
    }

    /// Makes sure that a vCPU is on its CPU: a switch between domains flushes, one inside a domain does not.
    fn run(&mut self, vcpu: usize) -> usize {
        let cpu = vcpu % self.cpus.len();
        let before = self.cpus[cpu].running.replace(vcpu);
        if before.map(domain_of) != Some(domain_of(vcpu)) {
            self.flush(CpuSet::only(CpuId(cpu as u32)));
            for cpus in &self.machine.translations {
                cpus.remove(CpuId(cpu as u32));
            }
            self.machine.translations[domain_of(vcpu)].insert(CpuId(cpu as u32));
        }
        if before != Some(vcpu) {
            for root in [self.vcpus[vcpu].roots.kernel, self.vcpus[vcpu].roots.user].into_iter().flatten() {
                self.cpus[cpu].tlb.load_root(self.machine, root);
            }
        }
        cpu
    }

    /// One vCPU makes a hypercall, or goes on with the one it could not finish.
    pub fn call(&mut self, vcpu: usize, call: Call, go_on: bool, manner: Manner) {
        if self.domains[domain_of(vcpu)].dying {
            return self.die(domain_of(vcpu), manner);
        }
        let cpu = self.run(vcpu);
        let unfinished = self.vcpus[vcpu].unfinished;
        let call = unfinished.filter(|_| go_on).unwrap_or(call);
        let result = self.with(vcpu, manner, |world, op| world.perform(vcpu, cpu, call, op));
        match result {
            Err(Stop::Again | Stop::Flush(_)) if unfinished.is_none() => self.vcpus[vcpu].unfinished = Some(call),
            Err(Stop::Again | Stop::Flush(_)) => {}
            Ok(()) | Err(Stop::Refused(_)) => {
                self.calls_done += u64::from(result.is_ok());
                self.calls_refused += u64::from(result.is_err());
                if go_on {
                    self.vcpus[vcpu].unfinished = None;
                }
            }
        }
    }

    /// Calls the rules for a vCPU until they don't ask for a flush, and retires what they freed.
    fn with(
        &mut self,
        vcpu: usize,
        manner: Manner,
        mut rules: impl FnMut(&mut Self, &mut Operation<'_, Memory<REAL>>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let (machine, mut budget) = (self.machine, manner.budget);
        let mmu = machine.mmu();
        let mut pending = mem::take(&mut self.vcpus[vcpu].pending);
        let result = loop {
            let mut op = Operation::new(&mmu, machine.space(domain_of(vcpu)), &mut pending, budget);
            let result = rules(self, &mut op);
            budget = op.budget;
            let freed = mem::take(&mut op.pending.freed);
            self.retire(freed);
            match result {
                Err(Stop::Flush(cpus)) if manner.flushes => self.flush(cpus),
                result => break result,
            }
        };
        self.vcpus[vcpu].pending = pending;
        result
    }

    fn retire(&mut self, freed: Freed) {
        let table = self.machine.table();
        for mfn in freed {
            let owner = table.known(mfn).owner().expect("a domain's frame");
            let frames = &mut self.domains[usize::from(owner.0)].frames;
            frames.retire(&table, &self.machine.clock, &self.machine.memory, &mut self.allocator, mfn);
        }
    }

    fn perform(
        &mut self,
        vcpu: usize,
        cpu: usize,
        call: Call,
        op: &mut Operation<'_, Memory<REAL>>,
    ) -> Result<(), Stop> {
        let domain = domain_of(vcpu);
        let id = |domain: usize| DomainId(domain as u16);
        match call {
            Call::Update { slot, value, change, page_owner } => op.update(slot, value, change, id(page_owner)),
            Call::UpdateL1 { slot, value } => op.update_l1(slot, value, Change::Set, id(domain)).map(drop),
            Call::Pin { mfn, level } => {
                op.pin(mfn, level)?;
                assert!(self.domains[domain].pins.insert(mfn));
                Ok(())
            }
            Call::Unpin { mfn } => {
                op.unpin(mfn)?;
                assert!(self.domains[domain].pins.remove(&mfn));
                Ok(())
            }
            Call::SetRoot { mode, root } => self.set_root(vcpu, cpu, mode, root, op),
            Call::TakeDescriptors { mfn } => {
                op.take_descriptors(mfn)?;
                self.vcpus[vcpu].holds.push(Hold::Typed(mfn, FrameType::Descriptors));
                Ok(())
            }
            Call::UpdateDescriptor { slot, value } => op.update_descriptor(slot, value),
            Call::TakeWritable { mfn, owner } => {
                op.take_writable(mfn, id(owner))?;
                self.vcpus[vcpu].holds.push(Hold::Typed(mfn, FrameType::Writable));
                Ok(())
            }
            Call::Reference { mfn, owner } => {
                op.reference(mfn, id(owner))?;
                self.vcpus[vcpu].holds.push(Hold::Page(mfn));
                Ok(())
            }
            Call::GiveBack { mfn } => {
                op.give_back(&mut self.domains[domain].frames, mfn)?;
                assert!(self.domains[domain].allocated.remove(&mfn));
                self.domains[domain].pins.remove(&mfn);
                Ok(())
            }
            Call::Reclaim { mfn } => {
                op.reclaim(&mut self.domains[domain].frames, mfn)?;
                assert!(self.domains[domain].allocated.remove(&mfn));
                m2p::clear(&self.machine.memory, mfn);
                self.allocator.free(&self.machine.table(), mfn, 0, true);
                Ok(())
            }
            Call::Find { address } => {
                let Some(root) = self.vcpus[vcpu].roots.kernel else { return Ok(()) };
                let (found, naive) = (op.find_l1(root, address), model::walk(self.machine, root, address));
                assert_eq!(found.ok(), naive.map(|(slot, _)| slot), "{address:?}");
                self.walks_done += u64::from(naive.is_some());
                found.map(drop)
            }
            Call::Allows { address, access } => {
                let Some(root) = self.vcpus[vcpu].roots.user else { return Ok(()) };
                let naive = model::walk(self.machine, root, address).is_some_and(|(_, rights)| rights.allow(access));
                assert_eq!(op.allows(root, address, access), naive, "{access:?} at {address:?}");
                self.walks_done += u64::from(naive);
                Ok(())
            }
            Call::Drain => op.drain(),
        }
    }

    fn set_root(
        &mut self,
        vcpu: usize,
        cpu: usize,
        mode: Mode,
        root: Option<Mfn>,
        op: &mut Operation<'_, Memory<REAL>>,
    ) -> Result<(), Stop> {
        let old = op.set_root(&mut self.vcpus[vcpu].roots, mode, root, false)?;
        if let Some(root) = root {
            self.cpus[cpu].tlb.load_root(self.machine, root);
        }
        if let Some(old) = old {
            op.drop_root(old);
        }
        Ok(())
    }

    /// Another module drops one of the references it holds.
    pub fn put(&mut self, vcpu: usize, which: usize) {
        let holds = &mut self.vcpus[vcpu].holds;
        if holds.is_empty() {
            return;
        }
        let hold = holds.swap_remove(which % holds.len());
        let manner = Manner { budget: 1, flushes: true };
        let put = |_: &mut Self, op: &mut Operation<'_, Memory<REAL>>| {
            match hold {
                Hold::Page(mfn) => op.put(mfn),
                Hold::Typed(mfn, FrameType::Writable) => op.put_writable(mfn),
                Hold::Typed(mfn, _) => op.put_descriptors(mfn),
            }
            Ok(())
        };
        self.with(vcpu, manner, put).expect("nothing is refused");
    }

    /// A CPU with Meltdown goes on with its guest, in kernel or user mode, and there may be a fault or a flush at an address.
    pub fn enter_guest(&mut self, cpu: usize, mode: Mode, address: Option<GuestVa>) {
        let cpu = cpu % self.cpus.len();
        let Cpu { tlb, running } = &mut self.cpus[cpu];
        let Some(vcpu) = *running else { return };
        let Roots { kernel, user } = self.vcpus[vcpu].roots;
        let Some(root) = (if mode == Mode::Kernel { kernel } else { user }) else { return };
        tlb.enter_guest(self.machine, cpu as u32, root);
        if let Some(address) = address {
            tlb.follow(self.machine, cpu as u32, root, address);
        }
        self.guests_entered += 1;
    }

    /// A CPU walks a step on its own.
    pub fn walk(&mut self, cpu: usize, which: usize, index: usize) {
        let cpu = cpu % self.cpus.len();
        self.cpus[cpu].tlb.walk(self.machine, which, index);
    }

    /// A guest stores through any translation its CPU still has.
    pub fn store(&mut self, cpu: usize, which: usize, index: usize, value: u64) {
        let cpu = cpu % self.cpus.len();
        self.cpus[cpu].tlb.store(self.machine, which, index, value);
    }

    /// A guest flushes its CPU.
    pub fn flush_one(&mut self, cpu: usize) {
        let cpu = CpuId((cpu % self.cpus.len()) as u32);
        self.flush(CpuSet::only(cpu));
    }

    /// A domain begins to die, or goes on dying; reborn when nothing is left of it.
    pub fn die(&mut self, domain: usize, manner: Manner) {
        self.domains[domain].dying = true;
        for cpu in &mut self.cpus {
            if cpu.running.map(domain_of) == Some(domain) {
                // Idle now, and the translations stay.
                cpu.running = None;
            }
        }
        if self.bury(domain, manner) == Ok(()) && self.domains[domain].frames.is_empty() {
            self.domains[domain].dying = false;
            self.start(domain);
        }
    }

    fn bury(&mut self, domain: usize, manner: Manner) -> Result<(), Stop> {
        let vcpus = 2 * domain..2 * domain + 2;
        for vcpu in vcpus.clone() {
            self.vcpus[vcpu].unfinished = None;
            self.with(vcpu, manner, |_, op| op.give_up())?;
            while !self.vcpus[vcpu].holds.is_empty() {
                self.put(vcpu, 0);
            }
            self.with(vcpu, manner, |world, op| {
                let mut roots = world.vcpus[vcpu].roots;
                let result = op.drop_roots(&mut roots);
                world.vcpus[vcpu].roots = roots;
                result?;
                op.drain()
            })?;
        }
        let result = self.with(vcpus.start, manner, |world, op| op.tear_down(&mut world.domains[domain].frames));
        let table = self.machine.table();
        let Domain { allocated, pins, .. } = &mut self.domains[domain];
        let owned = |mfn: &Mfn| table.known(*mfn).owner() == Some(DomainId(domain as u16));
        allocated.retain(|mfn| owned(mfn) && table.known(*mfn).state().has_allocation());
        pins.retain(|mfn| owned(mfn) && table.known(*mfn).state().is_pinned());
        result
    }

    /// Counts everything again, and looks into every TLB.
    pub fn check(&self) {
        let mut model = Model::new(self.machine);
        for vcpu in &self.vcpus {
            model.vcpu(&vcpu.pending, &vcpu.roots);
            for hold in &vcpu.holds {
                match *hold {
                    Hold::Page(mfn) => model.reference(mfn),
                    Hold::Typed(mfn, kind) => model.type_reference(mfn, kind),
                }
            }
        }
        let table = self.machine.table();
        for domain in &self.domains {
            for &mfn in &domain.allocated {
                assert!(table.known(mfn).state().has_allocation());
                model.reference(mfn);
            }
            for &mfn in &domain.pins {
                let state = table.known(mfn).state();
                assert!(state.is_pinned(), "{mfn:?}: {state:?}");
                model.type_reference(mfn, state.frame_type());
            }
            assert_eq!(domain.frames.allocated(), domain.allocated.len() as u64);
        }
        model.check();
        self.cpus.iter().for_each(|cpu| cpu.tlb.check(self.machine));
        self.check_ownership();
    }

    /// Every frame is free, the hypervisor's or a domain's, and the numbers add up.
    fn check_ownership(&self) {
        let table = self.machine.table();
        let mut owned = 0;
        for n in 0..table.end().0 {
            match table.known(Mfn(n)).owner() {
                Some(_) => owned += 1,
                None => assert_eq!(self.machine.memory.known_as(Mfn(n)), INVALID_ENTRY),
            }
        }
        assert_eq!(self.allocator.free_frames() + owned, self.allocator.total_frames());
    }

    /// Both domains die for good; every frame must come back.
    pub fn end(mut self) {
        let manner = Manner { budget: 1000, flushes: true };
        for _ in 0..1000 {
            if self.domains.iter().all(|domain| domain.frames.is_empty()) {
                break;
            }
            for domain in 0..DOMAINS {
                self.domains[domain].dying = true;
                let _ = self.bury(domain, manner);
            }
            self.check();
        }
        for (n, frame) in self.machine.frames.iter().enumerate().filter(|(_, frame)| frame.owner().is_some()) {
            std::eprintln!("left over: frame {n:#x} of {:?}: {:?}", frame.owner(), frame.state());
        }
        assert_eq!(self.allocator.free_frames(), self.allocator.total_frames());
        assert!(self.vcpus.iter().all(|vcpu| vcpu.pending.is_empty()));
    }
}
