//! A platform: the made-up machine of `mm::tests` with two CPUs and two domains, as the domain that calls sees it.
//!
//! The arguments of calls are in a window of guest memory; any other address faults. Copies and allocations fail when a
//! test says so. Domain 0 has privilege over domain 1 and two device frames.
//!
//! * `platform`: what the handlers ask of it.
//! * `target`: domains in the hands of the control domain, and vCPUs that don't run.
//! * `failing`: what can be made to fail.

mod failing;
mod platform;
mod target;

use core::cell::{Cell, RefCell};
use std::boxed::Box;
use std::rc::Rc;
use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crate::addr::{CpuId, DomainId, Mfn, VcpuId};
use crate::bounce::GuestSpace;
use crate::device::Hardware;
use crate::device::interrupts::Interrupts;
use crate::device::ports::Ports;
use crate::device::tests::Controllers;
use crate::domain::link::VcpuLink;
use crate::domain::shared::SharedInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::tests::Pages;
use crate::event::{Events, Kick, Rights};
use crate::grant::{Grants, Limits};
use crate::guest::{Fault, GuestCopy, check_span};
use crate::hypercall::{DomainFacts, NewDomain, Platform, Target};
use crate::machine::log_ring::LogRing;
use crate::mm::buddy::FrameAllocator;
use crate::mm::devices::DeviceFrames;
use crate::mm::flush::CpuSet;
use crate::mm::m2p;
use crate::mm::operation::{Freed, Mmu, Space};
use crate::mm::owner::DomainFrames;
use crate::mm::perform::{Effects, FramesLock};
use crate::mm::state::FrameType;
use crate::mm::tests::machine::{DEVICES, DOMAINS, Machine, Memory, Tlb};
use crate::sched::Share;

pub use failing::Failing;
pub use target::FakeParked;

/// Guest memory: 64 KiB from this address on.
pub const BASE: u64 = 0x10_0000;
pub const WINDOW: usize = 0x1_0000;
pub const CPUS: usize = 2;
/// Frames a domain starts with, and those it may have.
pub const FRAMES: u64 = 20;
pub const MAX_FRAMES: u64 = 28;
/// Ports it may have.
pub const MAX_PORTS: u32 = 200;

/// What a domain may have of grants: few, so that tests come to the end of it.
pub const GRANT_LIMITS: Limits = Limits { frames: 2, maptrack_frames: 1 };

/// The vCPU of each domain that may not run.
pub const PARKED: u8 = 2;

/// The event channels of a domain of three vCPUs: the first one is up, the last one has never been.
pub fn events(domain: DomainId) -> Arc<Events> {
    let rights = Rights { privileged: domain == DomainId(0), max_ports: MAX_PORTS };
    let events = Events::new(domain, Box::leak(SharedInfo::zeroed()), 3, rights, Pages::leak());
    let [first, second, _] = events.vcpus() else { panic!("there are three") };
    for link in [first, second] {
        link.set_initialised();
    }
    first.set_up(true);
    Arc::new(events)
}

/// A domain's frames, under a lock that knows whether it is held.
pub struct Frames(RefCell<DomainFrames>);

impl FramesLock for Frames {
    fn with(&self, work: &mut dyn FnMut(&mut DomainFrames)) {
        work(&mut self.0.borrow_mut());
    }
}

pub struct Domain {
    pub frames: Frames,
    /// The frames it started with: at its pfn n the nth.
    pub first: Vec<Mfn>,
    /// The frame it shares with the hypervisor.
    pub shared_mfn: Mfn,
    pub facts: Rc<Cell<DomainFacts>>,
    pub events: Arc<Events>,
    pub grants: Arc<Grants>,
    pub share: Arc<Share>,
}

/// What a CPU has loaded.
#[derive(Default)]
pub struct Cpu {
    pub tlb: Tlb,
    pub running: Option<usize>,
    pub root: Option<Mfn>,
    pub gdt: Vec<Mfn>,
    pub ldt: Vec<Mfn>,
}

/// What calls asked for that leaves no other trace.
#[derive(Default)]
pub struct Record {
    pub printed: Vec<u8>,
    pub bases: Vec<(SegmentBase, u64)>,
    pub debug_registers: Option<[u64; 8]>,
    pub flushes: Vec<CpuSet>,
    pub flushed_addresses: Vec<u64>,
    pub roots: Vec<Option<Mfn>>,
    pub complaints: Vec<String>,
    pub kicks: Vec<(DomainId, VcpuId)>,
    pub timers: Vec<Option<u64>>,
    pub created: Vec<NewDomain>,
    pub hypercall_pages: Vec<Mfn>,
    pub rescheduled: Vec<DomainId>,
}

pub struct Fake<'a> {
    pub machine: &'a Machine<true>,
    mmu: Mmu<'a, Memory<true>>,
    pub allocator: FrameAllocator,
    pub domains: Vec<Domain>,
    pub cpus: Vec<Cpu>,
    /// The domain that calls, and its CPU.
    pub domain: usize,
    pub cpu: usize,
    pub memory: Vec<u8>,
    pub now: u64,
    pub keys: Vec<u8>,
    pub record: Record,
    /// The vCPUs that may not run.
    pub parked: Vec<FakeParked>,
    pub copies: Failing,
    pub allocations: Failing,
    /// A write that fails is to be tried again.
    pub prints: Failing,
    /// The interrupt controllers, and the hardware of domain 0.
    pub controllers: &'static Controllers,
    pub hardware: Arc<Hardware>,
    /// The hypervisor's log.
    pub log: LogRing<1024>,
    /// Where the machine's RAM ends, as far as guests are told.
    pub ram_end: Mfn,
}

impl<'a> Fake<'a> {
    /// The machine's last frame is the hypervisor's, and may be read by the control domain.
    pub fn new(machine: &'a Machine<true>) -> Fake<'a> {
        let table = machine.table();
        let mut allocator = FrameAllocator::new();
        let device = DEVICES[0].start;
        allocator.add_range(&table, Mfn(1), device - 1);
        allocator.add_range(&table, Mfn(device + 1), table.end().0 - device - 2);
        table.show_read_only(Mfn(table.end().0 - 1), 1);
        let mut domain = |id| {
            let shared_mfn = allocator.alloc(&table, 0).unwrap().mfn;
            let mut frames = DomainFrames::new(DomainId(id));
            frames.share(&table, shared_mfn);
            m2p::mark_shared(&machine.memory, shared_mfn);
            let grants = Grants::new(DomainId(id), GRANT_LIMITS);
            let table_frame = allocator.alloc(&table, 0).unwrap().mfn;
            frames.share(&table, table_frame);
            m2p::mark_shared(&machine.memory, table_frame);
            assert!(grants.add_frame(0, table_frame));
            Domain {
                frames: Frames(RefCell::new(frames)),
                first: vec![],
                shared_mfn,
                facts: Rc::new(Cell::new(DomainFacts {
                    max_pages: MAX_FRAMES,
                    shared_info: shared_mfn,
                    handle: [7; 16],
                    dying: false,
                    shutdown: None,
                    paused: false,
                })),
                events: events(DomainId(id)),
                grants: Arc::new(grants),
                share: Arc::new(Share::new(256, 0)),
            }
        };
        let domains: Vec<Domain> = [0, 1].map(&mut domain).into();
        let controllers = Controllers::leak();
        let interrupts = Box::leak(Box::new(Interrupts::new(controllers)));
        interrupts.give_to(&domains[0].events);
        let hardware =
            Hardware { ports: Ports::all_but(vec![]), frames: DeviceFrames::new(DEVICES.to_vec()), interrupts };
        let mut fake = Fake {
            machine,
            mmu: machine.mmu(),
            allocator,
            domains,
            cpus: (0..CPUS).map(|_| Cpu::default()).collect(),
            domain: 0,
            cpu: 0,
            memory: vec![0; WINDOW],
            now: 1000,
            keys: vec![],
            record: Record::default(),
            parked: vec![],
            copies: Failing::default(),
            allocations: Failing::default(),
            prints: Failing::default(),
            controllers,
            hardware: Arc::new(hardware),
            log: LogRing::new(),
            ram_end: table.end(),
        };
        for domain in 0..DOMAINS {
            let link = &fake.domains[domain].events.vcpus()[usize::from(PARKED)];
            fake.parked.push(FakeParked { vcpu: Vcpu::new(link, Arc::default()), cpu: None });
            fake.domain = domain;
            for pfn in 0..FRAMES {
                let mfn = fake.populate(0, Some(crate::addr::Pfn(pfn))).unwrap();
                fake.domains[domain].first.push(mfn);
            }
        }
        fake
    }

    pub fn set_max_pages(&mut self, domain: u16, pages: u64) {
        self.target(DomainId(domain)).unwrap().set_max_pages(pages);
    }

    /// Stores an argument, whatever fails.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        let start = usize::try_from(at - BASE).unwrap();
        self.memory[start..start + bytes.len()].copy_from_slice(bytes);
    }

    pub fn put_words(&mut self, at: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.put(at + 8 * index as u64, &word.to_le_bytes());
        }
    }

    pub fn word(&self, at: u64) -> u64 {
        let start = usize::try_from(at - BASE).unwrap();
        u64::from_le_bytes(self.memory[start..start + 8].try_into().unwrap())
    }

    fn range(&mut self, at: u64, len: usize) -> Result<core::ops::Range<usize>, Fault> {
        check_span(at, len)?;
        if self.copies.fails() {
            return Err(Fault(at));
        }
        let start = usize::try_from(at.checked_sub(BASE).ok_or(Fault(at))?).unwrap();
        let end = start.checked_add(len).filter(|&end| end <= self.memory.len()).ok_or(Fault(at))?;
        Ok(start..end)
    }

    /// One CPU drops all translations; what it has loaded it may use again at once.
    pub fn flush_one(&mut self, cpu: usize) {
        let Cpu { tlb, root, .. } = &mut self.cpus[cpu];
        tlb.flush(self.machine, cpu as u32);
        if let Some(root) = *root {
            tlb.load_root(self.machine, root);
        }
    }

    fn frame_type(&self, mfn: Mfn) -> Option<FrameType> {
        let state = self.mmu.frames.get(mfn)?.state();
        Some(state.frame_type()).filter(|&kind| state.is_live(kind))
    }

    /// Nothing that a CPU may reach is what it must not be.
    pub fn check_cpus(&self) {
        self.cpus.iter().for_each(|cpu| cpu.tlb.check(self.machine));
        self.check_loaded();
    }

    /// Nothing is loaded that is not held as what it is.
    fn check_loaded(&self) {
        for cpu in &self.cpus {
            for &mfn in cpu.gdt.iter().chain(&cpu.ldt) {
                assert_eq!(self.frame_type(mfn), Some(FrameType::Descriptors), "{mfn:?} is shown as descriptors");
            }
            if let Some(root) = cpu.root {
                assert_eq!(self.frame_type(root), Some(FrameType::L4), "{root:?} is in CR3");
            }
        }
    }

    /// Every frame is free, a domain's, or no RAM; the numbers add up, and nobody has more than it may.
    pub fn check_ownership(&self) {
        let table = self.mmu.frames;
        let mut owned = 0;
        let mut allocated = [0; DOMAINS];
        for (n, frame) in self.machine.frames.iter().enumerate() {
            match frame.owner() {
                Some(DomainId::HYPERVISOR) => {}
                Some(owner) => {
                    owned += 1;
                    allocated[usize::from(owner.0)] += u64::from(frame.state().has_allocation());
                }
                None => assert_eq!(self.machine.memory.known_as(Mfn(n as u64)), m2p::INVALID_ENTRY, "frame {n:#x}"),
            }
        }
        assert_eq!(self.allocator.free_frames() + owned, self.allocator.total_frames(), "of {:?}", table.end());
        for (domain, allocated) in self.domains.iter().zip(allocated) {
            assert_eq!(domain.frames.0.borrow().allocated(), allocated);
            assert!(allocated <= domain.facts.get().max_pages);
        }
    }
}

impl GuestCopy for Fake<'_> {
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let range = self.range(from, buf.len())?;
        buf.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.range(to, bytes.len())?;
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }
}

impl GuestSpace for Fake<'_> {
    fn switch_mode(&mut self, _: &Vcpu, _: Mode) {}
}

impl<'a> Effects for Fake<'a> {
    type Tables = Memory<true>;

    fn mmu(&self) -> &Mmu<'_, Memory<true>> {
        &self.mmu
    }

    fn space(&self) -> Space<'_> {
        let space = self.machine.space(self.domain);
        if self.domain == 0 { Space { devices: &self.hardware.frames, ..space } } else { space }
    }

    fn frames(&self) -> &dyn FramesLock {
        &self.domains[self.domain].frames
    }

    fn retire(&mut self, freed: &mut Freed) {
        let table = self.mmu.frames;
        for mfn in freed.drain(..) {
            let owner = table.get(mfn).and_then(|frame| frame.owner()).expect("a domain's frame");
            let mut frames = self.domains[usize::from(owner.0)].frames.0.try_borrow_mut().expect("no lock is held");
            frames.retire(&table, &self.machine.clock, &self.machine.memory, &mut self.allocator, mfn);
        }
    }

    fn flush(&mut self, cpus: CpuSet) {
        assert!(self.domains.iter().all(|domain| domain.frames.0.try_borrow_mut().is_ok()), "flushing with a lock");
        self.record.flushes.push(cpus);
        for CpuId(cpu) in cpus.iter() {
            self.flush_one(cpu as usize);
        }
    }
}

impl Kick for Fake<'_> {
    fn kick(&mut self, vcpu: &VcpuLink) {
        self.record.kicks.push((vcpu.domain, vcpu.id));
    }
}
