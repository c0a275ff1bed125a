//! Two domains of two vCPUs each on the fake platform. After every step of a call everything is counted again.
//!
//! vCPU n belongs to domain n / 2 and runs on CPU n % 2. Each domain starts with the tables of two address spaces: its
//! vCPUs run on one, the other is linked but not in use, so that its pages have no type yet.

use std::boxed::Box;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::vec::Vec;

use crate::addr::{CpuId, DomainId, Mfn, PAGE_SIZE, VcpuId};
use crate::bounce::{self, Return};
use crate::domain::End;
use crate::domain::link::VcpuLink;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::event::Closing;
use crate::grant::{Mapping, Uses};
use crate::guest::GuestRegisters;
use crate::hypercall::{BUDGET, Next, Platform, dispatch_within, is_iret};
use crate::mm::entry::Entry;
use crate::mm::error::Stop;
use crate::mm::flush::CpuSet;
use crate::mm::operation::{Operation, PageTableMem};
use crate::mm::perform::{FramesLock, Unfinished, perform};
use crate::mm::state::{FrameType, State};
use crate::mm::tests::machine::{DOMAINS, Machine, Memory};
use crate::mm::tests::model::Model;

use super::fake::{CPUS, Cpu, Fake, FakeParked};

pub const VCPUS: usize = 2 * DOMAINS;
/// The vCPU that calls if nobody says otherwise: the first of domain 1, which has no privileges.
pub const FIRST: usize = 2;

/// The tables that a domain's vCPUs run on, by pfn: they map the first four pages of memory to `DATA` and up.
pub const L4: u64 = 0;
pub const L3: u64 = 1;
pub const L2: u64 = 2;
pub const L1: u64 = 3;
/// The other tables: they map `DATA + 4` writable and `DATA + 5` read-only.
pub const OTHER_L4: u64 = 4;
pub const OTHER_L3: u64 = 5;
pub const OTHER_L2: u64 = 6;
pub const OTHER_L1: u64 = 7;
/// The first pfn that is no table; twelve of them.
pub const DATA: u64 = 8;
/// Pages that are mapped writable at 0 and up.
pub const MAPPED: u64 = 4;

pub const P: u64 = 1;
pub const RW: u64 = 2;
pub const US: u64 = 4;

pub const fn domain_of(vcpu: usize) -> usize {
    vcpu / 2
}

/// A machine for a [`World`].
pub fn machine() -> Machine<true> {
    Machine::new(64, CPUS as u32)
}

pub struct World<'a> {
    pub fake: Fake<'a>,
    pub vcpus: Vec<Vcpu>,
    /// The vCPU that calls.
    pub current: usize,
    /// Grants that their domain has changed while they were in use, so that it can't tell any more whether they are.
    pub tampered: BTreeSet<(usize, u32)>,
}

impl<'a> World<'a> {
    pub fn new(machine: &'a Machine<true>) -> World<'a> {
        let vcpu = |n| {
            let info = Box::leak(Box::new(VcpuInfo::default()));
            let link = VcpuLink::new(DomainId(domain_of(n) as u16), VcpuId((n % 2) as u32), info);
            Vcpu::new(&link, Arc::default())
        };
        let mut world = World {
            fake: Fake::new(machine),
            vcpus: (0..VCPUS).map(vcpu).collect(),
            current: FIRST,
            tampered: BTreeSet::new(),
        };
        for vcpu in 0..VCPUS {
            world.fake.domain = domain_of(vcpu);
            if vcpu % 2 == 0 {
                world.link_tables();
            }
            let (root, mut roots) = (world.mfn(L4), world.vcpus[vcpu].roots);
            world.rules(vcpu, |op, _| op.set_root(&mut roots, Mode::Kernel, Some(root), false).map(drop)).unwrap();
            world.vcpus[vcpu].roots = roots;
        }
        world.run(FIRST);
        world.check();
        world
    }

    /// Writes the tables of both address spaces into pages that are no tables yet.
    fn link_tables(&mut self) {
        let (memory, data) = (&self.fake.machine.memory, |n| self.mfn(DATA + n));
        for (table, child) in [(L4, L3), (L3, L2), (L2, L1), (OTHER_L4, OTHER_L3), (OTHER_L3, OTHER_L2)] {
            memory.write(self.mfn(table), 0, entry(self.mfn(child), P | RW));
        }
        memory.write(self.mfn(OTHER_L2), 0, entry(self.mfn(OTHER_L1), P | RW));
        for n in 0..MAPPED {
            memory.write(self.mfn(L1), n as usize, entry(data(n), P | RW));
        }
        memory.write(self.mfn(OTHER_L1), 0, entry(data(4), P | RW));
        memory.write(self.mfn(OTHER_L1), 1, entry(data(5), P));
    }

    /// The frame that the calling domain started with at this pfn.
    pub fn mfn(&self, pfn: u64) -> Mfn {
        self.fake.domains[self.fake.domain].first[pfn as usize]
    }

    pub fn state_of(&self, mfn: Mfn) -> State {
        self.fake.machine.table().get(mfn).unwrap().state()
    }

    pub fn state(&self, pfn: u64) -> State {
        self.state_of(self.mfn(pfn))
    }

    /// What the frame is in use as.
    pub fn kind(&self, pfn: u64) -> FrameType {
        let state = self.state(pfn);
        if state.type_references() == 0 { FrameType::None } else { state.frame_type() }
    }

    pub fn read(&self, pfn: u64, index: usize) -> u64 {
        self.fake.machine.memory.read(self.mfn(pfn), index)
    }

    /// The guest stores in a page that it may write, or would have before the test began.
    pub fn write(&self, pfn: u64, index: usize, value: u64) {
        self.fake.machine.memory.write(self.mfn(pfn), index, value);
    }

    pub fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpus[self.current]
    }

    /// Puts a vCPU on its CPU: a switch between domains flushes, one inside a domain does not.
    pub fn run(&mut self, vcpu: usize) {
        let cpu = vcpu % CPUS;
        let Vcpu { gdt, ldt, .. } = &self.vcpus[vcpu];
        let (gdt, ldt) = (gdt.to_vec(), ldt.pages.iter().flatten().copied().collect());
        let root = self.vcpus[vcpu].root();
        let before = self.fake.cpus[cpu].running.replace(vcpu);
        self.fake.cpus[cpu] = Cpu { gdt, ldt, root, ..core::mem::take(&mut self.fake.cpus[cpu]) };
        if before.map(domain_of) != Some(domain_of(vcpu)) {
            self.fake.flush_one(cpu);
            for cpus in &self.fake.machine.translations {
                cpus.remove(CpuId(cpu as u32));
            }
            self.fake.machine.translations[domain_of(vcpu)].insert(CpuId(cpu as u32));
        } else if let Some(root) = root {
            self.fake.cpus[cpu].tlb.load_root(self.fake.machine, root);
        }
        (self.current, self.fake.domain, self.fake.cpu) = (vcpu, domain_of(vcpu), cpu);
    }

    /// Carries out one step of the rules for a vCPU.
    pub fn rules<T>(
        &mut self,
        vcpu: usize,
        step: impl FnMut(&mut Operation<'_, Memory<true>>, &dyn FramesLock) -> Result<T, Stop>,
    ) -> Result<T, Unfinished> {
        self.fake.domain = domain_of(vcpu);
        let result = perform(&mut self.fake, &mut self.vcpus[vcpu].pending, &mut BUDGET.clone(), step);
        self.fake.domain = domain_of(self.current);
        result
    }

    /// The CPU reads a descriptor in this page of the LDT: it is looked up, held and shown, as far as it can be.
    pub fn fill_ldt(&mut self, page: usize) {
        let (vcpu, root) = (self.current, self.vcpu().roots.kernel);
        let address = self.vcpu().ldt.base.and_then(|base| base.checked_add((page * PAGE_SIZE) as u64));
        let (Some(root), Some(address)) = (root, address) else { return };
        if self.vcpu().ldt.pages[page].is_some() {
            return;
        }
        let found = self.rules(vcpu, |op, _| {
            let at = op.find_l1(root, address)?;
            let entry = Entry(op.memory().read(at.page, at.index));
            op.take_descriptors(entry.frame()).map(|()| entry.frame())
        });
        if let Ok(mfn) = found {
            self.vcpu().ldt.pages[page] = Some(mfn);
            self.fake.show_ldt(&self.vcpus[vcpu].ldt);
        }
        self.check();
    }

    /// The registers of a guest that makes a call: those that are no argument hold something else.
    pub fn registers(number: u32, args: &[u64]) -> GuestRegisters {
        let mut words = [0x5a5a; 6];
        words[..args.len()].copy_from_slice(args);
        let [rdi, rsi, rdx, r10, r8, r9] = words;
        GuestRegisters {
            rax: number.into(),
            rip: 0x1002,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            r15: 15,
            r14: 14,
            r13: 13,
            r12: 12,
            rbp: 5,
            rbx: 3,
            rcx: 2,
            r11: 11,
            rsp: 4,
            cs: 0xe033,
            rflags: 0x202,
            ss: 0xe02b,
            ..Default::default()
        }
    }

    /// Makes a call, up to its first restart: then `None`. It must leave the registers alone that are no argument.
    pub fn step(&mut self, regs: &mut GuestRegisters, args: usize, budget: u32) -> Option<Next> {
        let before = *regs;
        let (vcpu, mut next) = (&mut self.vcpus[self.current], None);
        if is_iret(regs) {
            let left = bounce::iret(vcpu, regs, &mut self.fake);
            next = Some(left.map_or_else(|crash| Next::End(End::Crash(crash)), Next::Resume));
        } else if dispatch_within(vcpu, regs, &mut self.fake, &mut next, budget) {
            assert_eq!(next, None, "a call goes on, or says what follows");
            next = Some(Next::Resume(Return::RcxR11Free));
        }
        let next = next.expect("a call goes on, or says what follows");
        self.check();
        if before.rax == u64::from(pv_abi::hypercall::IRET) || matches!(next, Next::End(_)) {
            return Some(next);
        }
        if regs.rip == before.rip {
            assert_eq!(*regs, GuestRegisters { rax: regs.rax, ..before }, "a call changes its result alone");
            return Some(next);
        }
        assert_eq!(next, Next::Resume(Return::RcxR11Free));
        assert_eq!(regs.rip, before.rip - 2, "a restart runs the same instruction again");
        regs.rip = before.rip;
        let mut words = words(&before);
        words[..args].copy_from_slice(&self::words(regs)[..args]);
        let [rdi, rsi, rdx, r10, r8, r9] = words;
        assert_eq!(*regs, GuestRegisters { rdi, rsi, rdx, r10, r8, r9, ..before }, "a restart changes arguments alone");
        None
    }

    /// Makes a call and all its restarts, each with the next budget.
    pub fn call_within(&mut self, number: u32, args: &[u64], mut budget: impl FnMut() -> u32) -> (Next, i64) {
        let mut regs = World::registers(number, args);
        for _ in 0..100_000 {
            if let Some(next) = self.step(&mut regs, args.len(), budget()) {
                return (next, regs.rax.cast_signed());
            }
        }
        panic!("restarts without end");
    }

    pub fn call(&mut self, number: u32, args: &[u64]) -> (Next, i64) {
        self.call_within(number, args, || BUDGET)
    }

    /// Makes a call after which the guest goes on; its result.
    pub fn result(&mut self, number: u32, args: &[u64]) -> i64 {
        let (next, value) = self.call(number, args);
        assert_eq!(next, Next::Resume(Return::RcxR11Free));
        value
    }

    /// Takes a vCPU off its CPU, to where the control domain finds it.
    pub fn take_off(&mut self, vcpu: usize) {
        let info = Box::leak(Box::new(VcpuInfo::default()));
        let link = VcpuLink::new(DomainId(domain_of(vcpu) as u16), VcpuId((vcpu % 2) as u32), info);
        let taken = core::mem::replace(&mut self.vcpus[vcpu], Vcpu::new(&link, Arc::default()));
        for cpu in self.fake.cpus.iter_mut().filter(|cpu| cpu.running == Some(vcpu)) {
            *cpu = Cpu { tlb: core::mem::take(&mut cpu.tlb), ..Cpu::default() };
        }
        self.fake.parked.push(FakeParked { vcpu: taken, cpu: None });
    }

    /// Counts everything again.
    pub fn check(&self) {
        let mut model = Model::new(self.fake.machine);
        for vcpu in self.vcpus.iter().chain(self.fake.parked.iter().map(|parked| &parked.vcpu)) {
            model.vcpu(&vcpu.pending, &vcpu.roots);
            for &mfn in vcpu.gdt.iter().chain(vcpu.ldt.pages.iter().flatten()) {
                model.type_reference(mfn, FrameType::Descriptors);
            }
            assert!(vcpu.pending.freed.is_empty(), "frames that nobody retired");
        }
        for domain in &self.fake.domains {
            let frames = domain.events.vcpus().iter().filter_map(VcpuLink::info_frame);
            frames.for_each(|mfn| model.type_reference(mfn, FrameType::Writable));
        }
        for (n, frame) in self.fake.machine.frames.iter().enumerate() {
            let state = frame.state();
            if state.has_allocation() {
                model.reference(Mfn(n as u64));
            }
            if state.is_pinned() {
                model.type_reference(Mfn(n as u64), state.frame_type());
            }
        }
        for domain in &self.fake.domains {
            if domain.shared_mfn != Mfn(0) {
                model.type_reference(domain.shared_mfn, FrameType::Writable);
            }
            domain.events.held_frames().for_each(|mfn| model.type_reference(mfn, FrameType::Writable));
            let tables = (0..).map_while(|number| domain.grants.frame(number));
            tables.for_each(|mfn| model.type_reference(mfn, FrameType::Writable));
            domain.grants.held_frames().for_each(|(mfn, writable)| match writable {
                true => model.type_reference(mfn, FrameType::Writable),
                false => model.reference(mfn),
            });
        }
        model.check();
        self.check_grants();
        self.fake.check_cpus();
        self.fake.check_ownership();
    }

    /// Uses are counted as handles say, and the bits in the tables say so too. A domain without privilege has no more entries
    /// for another's frames than handles for them.
    fn check_grants(&self) {
        let domains = &self.fake.domains;
        let handles: Vec<_> = domains.iter().map(|domain| domain.grants.handles()).collect();
        for (n, domain) in domains.iter().enumerate() {
            for gref in 0..1024 {
                let here = handles.iter().flatten().filter(|handle| (usize::from(handle.0.0), handle.1) == (n, gref));
                let count = |uses: Uses| u32::from(uses.host) + u32::from(uses.device);
                let (reads, writes) = here.fold((0, 0), |(reads, writes), (.., uses)| match uses.writable {
                    true => (reads, writes + count(*uses)),
                    false => (reads + count(*uses), writes),
                });
                assert_eq!(domain.grants.uses_of(gref), (reads, writes), "grant {gref} of domain {n}");
                let Some(page) = domain.grants.frame(gref / 512) else { continue };
                // If the guest has changed the grant in use there is no telling.
                if !self.tampered.contains(&(n, gref)) {
                    let entry = self.fake.machine.memory.read(page, gref as usize % 512);
                    let bits = if reads + writes > 0 { 8 } else { 0 } | if writes > 0 { 16 } else { 0 };
                    assert_eq!(entry & 0x18, bits, "grant {gref} of domain {n} is {entry:#x}");
                }
            }
        }
        let machine = self.fake.machine;
        let tables = (0..)
            .map(Mfn)
            .zip(&machine.frames)
            .filter(|(_, frame)| frame.owner() == Some(DomainId(1)) && frame.state().is_live(FrameType::L1));
        let entries = tables.flat_map(|(table, _)| (0..512).map(move |index| Entry(machine.memory.read(table, index))));
        let mut foreign: Vec<Mfn> = entries.filter(|entry| entry.is_present()).map(Entry::frame).collect();
        foreign.retain(|&mfn| machine.table().get(mfn).is_some_and(|frame| frame.owner() == Some(DomainId(0))));
        for handle in handles[1].iter().filter(|(granter, .., uses)| granter.0 == 0 && uses.host) {
            if let Some(index) = foreign.iter().position(|&mfn| mfn == handle.2) {
                foreign.swap_remove(index);
            }
        }
        assert!(foreign.is_empty(), "domain 1 maps {foreign:?}, which are domain 0's");
    }

    /// Both domains die, and every frame comes back.
    pub fn end(mut self) {
        for cpu in &mut self.fake.cpus {
            // Idle; the translations stay.
            *cpu = Cpu { tlb: core::mem::take(&mut cpu.tlb), ..Cpu::default() };
        }
        let parked = core::mem::take(&mut self.fake.parked);
        self.vcpus.extend(parked.into_iter().map(|parked| parked.vcpu));
        for vcpu in 0..self.vcpus.len() {
            self.until_done(vcpu, |op, vcpu, _| {
                while let Some(mfn) = vcpu.gdt.pop().or_else(|| vcpu.ldt.pages.iter_mut().find_map(Option::take)) {
                    op.put_descriptors(mfn);
                }
                Ok(())
            });
            self.until_done(vcpu, |op, _, _| op.give_up());
            self.until_done(vcpu, |op, vcpu, _| op.drop_roots(&mut vcpu.roots));
            self.until_done(vcpu, |op, _, _| op.drain());
        }
        for domain in 0..DOMAINS {
            let events = self.fake.domains[domain].events.clone();
            assert!(events.close_all(Closing::End, &mut BUDGET.clone()));
            while let Some(mfn) = events.take_frame() {
                self.until_done(2 * domain, |op, _, _| {
                    op.put_writable(mfn);
                    Ok(())
                });
            }
            let grants = self.fake.domains[domain].grants.clone();
            while let Some(mfn) = grants.close_frame() {
                self.until_done(2 * domain, |op, _, _| {
                    op.put_writable(mfn);
                    Ok(())
                });
            }
            let fresh = super::fake::events(DomainId(domain as u16));
            let events = core::mem::replace(&mut self.fake.domains[domain].events, fresh);
            let mut frames: Vec<Mfn> = events.vcpus().iter().filter_map(VcpuLink::info_frame).collect();
            self.until_done(2 * domain, |op, _, _| {
                frames.drain(..).for_each(|mfn| op.put_writable(mfn));
                Ok(())
            });
            self.until_done(2 * domain, |op, _, frames| frames.run(|frames| op.tear_down(frames)));
            let shared = core::mem::replace(&mut self.fake.domains[domain].shared_mfn, Mfn(0));
            self.until_done(2 * domain, |op, _, _| {
                op.put_writable(shared);
                Ok(())
            });
            self.release_grants(domain);
        }
        assert!(self.fake.domains.iter().all(|domain| domain.grants.pins() == 0), "a pin is left");
        for (n, frame) in self.fake.machine.frames.iter().enumerate().filter(|(_, frame)| frame.owner().is_some()) {
            std::eprintln!("left over: frame {n:#x} of {:?}: {:?}", frame.owner(), frame.state());
        }
        assert_eq!(self.fake.allocator.free_frames(), self.fake.allocator.total_frames());
        assert!(self.vcpus.iter().all(|vcpu| vcpu.pending.is_empty()));
    }

    /// A domain gives back what others granted it.
    fn release_grants(&mut self, domain: usize) {
        let (grants, mut from) = (self.fake.domains[domain].grants.clone(), 0);
        while let Some((next, Mapping { granter, gref, mfn, uses, .. })) = grants.end_handle(from) {
            from = next;
            granter.unpin(&self.fake.machine.memory, gref, uses);
            if uses.device {
                self.until_done(2 * domain, |op, _, _| {
                    op.put_granted(mfn, uses.writable);
                    Ok(())
                });
            }
        }
    }

    fn until_done(
        &mut self,
        vcpu: usize,
        mut step: impl FnMut(&mut Operation<'_, Memory<true>>, &mut Vcpu, &dyn FramesLock) -> Result<(), Stop>,
    ) {
        self.fake.domain = usize::from(self.vcpus[vcpu].domain.0);
        let vcpu = &mut self.vcpus[vcpu];
        loop {
            let mut pending = core::mem::take(&mut vcpu.pending);
            let done = perform(&mut self.fake, &mut pending, &mut BUDGET.clone(), |op, frames| step(op, vcpu, frames));
            vcpu.pending = pending;
            match done {
                Ok(()) => break,
                Err(Unfinished::Again) => {}
                Err(Unfinished::Refused(refused)) => panic!("{refused}"),
            }
        }
        self.check();
    }
}

/// The argument registers.
fn words(regs: &GuestRegisters) -> [u64; 6] {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]
}

/// A page-table entry.
pub const fn entry(mfn: Mfn, flags: u64) -> u64 {
    mfn.0 << 12 | flags
}

/// Both CPUs, and just one.
pub const ALL_CPUS: CpuSet = CpuSet::first(CPUS as u32);

pub const fn only(cpu: u32) -> CpuSet {
    CpuSet::only(CpuId(cpu))
}
