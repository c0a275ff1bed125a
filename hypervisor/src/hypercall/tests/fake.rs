//! A platform: the made-up machine of `mm::tests` with two CPUs and two domains, as the domain that calls sees it.
//!
//! The arguments of calls are in a window of guest memory; any other address faults. Copies and allocations fail when a
//! test says so. Domain 0 has privilege over domain 1 and two device frames.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::boxed::Box;
use std::rc::Rc;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use crate::addr::{CpuId, DomainId, GuestVa, Mfn, VcpuId, is_canonical};
use crate::bounce::GuestSpace;
use crate::device::Hardware;
use crate::device::interrupts::Interrupts;
use crate::device::ports::Ports;
use crate::device::tests::Controllers;
use crate::domain::context::CpuContext;
use crate::domain::link::VcpuLink;
use crate::domain::shared::{SharedInfo, VcpuInfo};
use crate::domain::vcpu::{Gdt, Ldt, Mode, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::tests::Pages;
use crate::event::{Events, Kick, Rights};
use crate::grant::{Grants, Limits};
use crate::guest::{Fault, GuestCopy, check_span};
use crate::hypercall::{DomainView, Facts, MachineFacts, NewDomain, Parked, Platform, Target};
use crate::machine::log_ring::LogRing;
use crate::mm::buddy::FrameAllocator;
use crate::mm::devices::DeviceFrames;
use crate::mm::flush::CpuSet;
use crate::mm::m2p;
use crate::mm::operation::{Freed, Mmu, PageTableMem, Space};
use crate::mm::owner::DomainFrames;
use crate::mm::perform::{Effects, FramesLock};
use crate::mm::state::FrameType;
use crate::mm::tests::machine::{DEVICES, DOMAINS, Machine, Memory, Tlb};
use crate::sched::Share;
use crate::time::{Clock, GuestRecord};
use pv_abi::errno::Errno;

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

/// Something that can be made to fail.
#[derive(Clone, Copy, Default)]
pub struct Failing {
    left: Option<u32>,
    once: bool,
    /// Whether it came to that.
    pub failed: bool,
}

impl Failing {
    /// Works so many times, and never again.
    pub fn after(count: u32) -> Failing {
        Failing { left: Some(count), once: false, failed: false }
    }

    /// Works so many times, fails, and works again.
    pub fn once_after(count: u32) -> Failing {
        Failing { once: true, ..Failing::after(count) }
    }

    fn fails(&mut self) -> bool {
        match self.left {
            Some(0) => {
                self.failed = true;
                if self.once {
                    self.left = None;
                }
                true
            }
            Some(left) => {
                self.left = Some(left - 1);
                false
            }
            None => false,
        }
    }
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
    pub facts: Rc<Cell<Facts>>,
    pub events: Arc<Events>,
    pub grants: Arc<Grants>,
    pub share: Arc<Share>,
}

/// A domain in the hands of the control domain.
pub struct FakeTarget {
    id: DomainId,
    facts: Rc<Cell<Facts>>,
    events: Arc<Events>,
    grants: Arc<Grants>,
    share: Arc<Share>,
}

impl FakeTarget {
    fn change(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts.get();
        change(&mut facts);
        self.facts.set(facts);
    }
}

impl Target for FakeTarget {
    fn id(&self) -> DomainId {
        self.id
    }

    fn facts(&self) -> Facts {
        self.facts.get()
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }

    fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    fn share(&self) -> &Share {
        &self.share
    }

    fn pool(&self, _: VcpuId) -> CpuSet {
        CpuSet::first(CPUS as u32)
    }

    fn set_max_pages(&self, pages: u64) {
        self.change(|facts| facts.max_pages = pages);
    }

    fn set_handle(&self, handle: [u8; 16]) {
        self.change(|facts| facts.handle = handle);
    }
}

/// The platform as another domain's.
pub struct InNameOf<'b, 'a> {
    fake: &'b mut Fake<'a>,
    caller: usize,
}

impl<'b, 'a> InNameOf<'b, 'a> {
    fn new(fake: &'b mut Fake<'a>, domain: DomainId) -> InNameOf<'b, 'a> {
        let caller = core::mem::replace(&mut fake.domain, usize::from(domain.0));
        InNameOf { fake, caller }
    }
}

impl Drop for InNameOf<'_, '_> {
    fn drop(&mut self) {
        self.fake.domain = self.caller;
    }
}

impl Effects for InNameOf<'_, '_> {
    type Tables = Memory<true>;

    fn mmu(&self) -> &Mmu<'_, Memory<true>> {
        self.fake.mmu()
    }

    fn space(&self) -> Space<'_> {
        self.fake.space()
    }

    fn frames(&self) -> &dyn FramesLock {
        self.fake.frames()
    }

    fn retire(&mut self, freed: &mut Freed) {
        self.fake.retire(freed);
    }

    fn flush(&mut self, cpus: CpuSet) {
        self.fake.flush(cpus);
    }
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
                facts: Rc::new(Cell::new(Facts {
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
                let mfn = fake.populate(0).unwrap();
                m2p::set(&machine.memory, mfn, crate::addr::Pfn(pfn));
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

/// A vCPU that may not run, and what its CPU is to hold.
pub struct FakeParked {
    pub vcpu: Vcpu,
    pub cpu: Option<CpuContext>,
}

impl Parked for FakeParked {
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    fn load(&mut self, cpu: &CpuContext) {
        self.cpu = Some(*cpu);
    }

    fn save(&self) -> CpuContext {
        self.cpu.unwrap_or(CpuContext { selectors: [0; 4], bases: [0; 3], fpu: None })
    }
}

impl Platform for Fake<'_> {
    type Parked = FakeParked;
    type Target = FakeTarget;

    fn now(&mut self) -> u64 {
        self.now
    }

    fn clock_record(&self) -> GuestRecord {
        Clock::new(1_000_000_000, 0).unwrap().guest_record(self.now)
    }

    fn take_parked(&mut self, id: VcpuId) -> Option<FakeParked> {
        let caller = DomainId(self.domain as u16);
        let which = |vcpu: &Vcpu| vcpu.id == id && vcpu.domain == caller;
        let index = self.parked.iter().position(|parked| which(&parked.vcpu))?;
        Some(self.parked.swap_remove(index))
    }

    fn park(&mut self, parked: FakeParked) {
        self.parked.push(parked);
    }

    fn bring_up(&mut self, id: VcpuId) {
        self.events().vcpu(id).unwrap().set_up(true);
    }

    fn take_down(&mut self, id: VcpuId) {
        self.events().vcpu(id).unwrap().set_up(false);
    }

    fn vcpu_info(&self, _: Mfn, offset: usize) -> &'static VcpuInfo {
        assert!(offset.is_multiple_of(8) && offset <= 4096 - 64);
        Box::leak(Box::default())
    }

    fn timers_changed(&mut self, vcpu: &Vcpu) {
        self.record.timers.push(vcpu.timers.deadline());
    }

    fn events(&self) -> &Arc<Events> {
        &self.domains[self.domain].events
    }

    fn domain(&self) -> DomainView {
        let Facts { max_pages, handle, .. } = self.domains[self.domain].facts.get();
        DomainView { vcpus: 3, max_pages, handle }
    }

    fn events_of(&self, id: DomainId) -> Option<Arc<Events>> {
        self.domains.get(usize::from(id.0)).map(|domain| domain.events.clone())
    }

    fn grants(&self) -> &Arc<Grants> {
        &self.domains[self.domain].grants
    }

    fn grants_of(&self, id: DomainId) -> Option<Arc<Grants>> {
        self.domains.get(usize::from(id.0)).map(|domain| domain.grants.clone())
    }

    fn has_memory_to_spare(&self) -> bool {
        self.allocator.free_frames() > 0
    }

    fn share_frame(&mut self, target: &FakeTarget) -> Option<Mfn> {
        let table = self.mmu.frames;
        if self.allocations.fails() {
            return None;
        }
        let block = self.allocator.alloc(&table, 0)?;
        let stale = self.machine.clock.stale(block.last_use, self.machine.online());
        stale.iter().for_each(|CpuId(cpu)| self.flush_one(cpu as usize));
        self.machine.memory.clear(block.mfn);
        self.domains[usize::from(target.id.0)].frames.0.borrow_mut().share(&table, block.mfn);
        m2p::mark_shared(&self.machine.memory, block.mfn);
        Some(block.mfn)
    }

    fn max_mfn(&self) -> Mfn {
        self.ram_end
    }

    /// The log is what was noted of the guest.
    fn read_log(&mut self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        self.log.read(from, into)
    }

    fn clear_log(&mut self, before: u32) {
        self.log.clear(before);
    }

    fn cr4_mask(&self) -> u64 {
        // TSD and DE.
        0xc
    }

    /// As if there were RAM in every other GiB only.
    fn m2p_frames(&self, number: u64) -> Option<Mfn> {
        number.is_multiple_of(2).then_some(Mfn(0x200 * (number + 1)))
    }

    fn console_write(&mut self, bytes: &[u8]) {
        self.record.printed.extend_from_slice(bytes);
    }

    fn console_read(&mut self, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.keys.len());
        buf[..count].copy_from_slice(&self.keys.drain(..count).collect::<Vec<_>>());
        count
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        assert!(is_canonical(base));
        self.record.bases.push((which, base));
    }

    fn load_inactive_gs(&mut self, _: &mut Vcpu, selector: u16) {
        self.record.bases.push((SegmentBase::GsInactive, selector.into()));
    }

    fn set_task_switched(&mut self, _: bool) {}

    fn load_debug_registers(&mut self, registers: [u64; 8]) {
        self.record.debug_registers = Some(registers);
    }

    fn this_cpu(&self) -> CpuId {
        CpuId(self.cpu as u32)
    }

    fn flush_here(&mut self) {
        Effects::flush(self, CpuSet::only(CpuId(self.cpu as u32)));
    }

    fn flush_address(&mut self, address: GuestVa) {
        self.record.flushed_addresses.push(address.get());
    }

    fn load_root(&mut self, vcpu: &Vcpu) {
        // What is loaded is held until it no longer is.
        self.check_loaded();
        self.record.roots.push(vcpu.root());
        self.cpus[self.cpu].root = vcpu.root();
        self.flush_one(self.cpu);
    }

    fn show_gdt(&mut self, gdt: &Gdt) {
        // What is loaded is held until it no longer is.
        self.check_loaded();
        self.cpus[self.cpu].gdt = gdt.to_vec();
    }

    fn show_ldt(&mut self, ldt: &Ldt) {
        // What is loaded is held until it no longer is.
        self.check_loaded();
        self.cpus[self.cpu].ldt = ldt.pages.iter().flatten().copied().collect();
    }

    fn page_owner(&self, id: DomainId) -> Result<DomainId, Errno> {
        match self.domain {
            _ if usize::from(id.0) >= DOMAINS => Err(Errno::ESRCH),
            0 => Ok(id),
            _ => Err(Errno::EPERM),
        }
    }

    fn populate(&mut self, order: u8) -> Option<Mfn> {
        let (count, table) = (1 << order, self.mmu.frames);
        let Domain { frames, facts, .. } = &self.domains[self.domain];
        let mut frames = frames.0.try_borrow_mut().expect("no lock is held");
        if self.allocations.fails() || frames.allocated() + count > facts.get().max_pages {
            return None;
        }
        let block = self.allocator.alloc(&table, order)?;
        (0..count).for_each(|n| self.machine.memory.clear(block.mfn.offset(n)));
        (0..count).for_each(|n| frames.assign(&table, block.mfn.offset(n)));
        drop(frames);
        let stale = self.machine.clock.stale(block.last_use, self.machine.online());
        stale.iter().for_each(|CpuId(cpu)| self.flush_one(cpu as usize));
        Some(block.mfn)
    }

    fn free_reclaimed(&mut self, mfn: Mfn) {
        m2p::clear(&self.machine.memory, mfn);
        self.allocator.free(&self.mmu.frames, mfn, 0, true);
    }

    fn clear_page(&mut self, mfn: Mfn) {
        assert_eq!(self.frame_type(mfn), Some(FrameType::Writable));
        self.machine.memory.clear(mfn);
    }

    fn copy_page(&mut self, to: Mfn, from: Mfn) {
        assert_eq!(self.frame_type(to), Some(FrameType::Writable));
        assert!(self.mmu.frames.get(from).is_some_and(|frame| frame.state().references() > 1), "{from:?} is held");
        for index in 0..<Memory<true> as PageTableMem>::ENTRIES {
            self.machine.memory.write(to, index, self.machine.memory.read(from, index));
        }
    }

    fn fill_hypercall_page(&mut self, mfn: Mfn) {
        assert_eq!(self.frame_type(mfn), Some(FrameType::Writable));
        self.record.hypercall_pages.push(mfn);
    }

    fn is_privileged(&self) -> bool {
        self.domain == 0
    }

    fn hardware(&self) -> Option<&Arc<Hardware>> {
        Some(&self.hardware).filter(|_| self.domain == 0)
    }

    fn machine(&self) -> MachineFacts {
        let (total_pages, free_pages) = (self.allocator.total_frames(), self.allocator.free_frames());
        MachineFacts { cpus: CPUS as u32, khz: 1_000_000, total_pages, free_pages }
    }

    fn target(&mut self, id: DomainId) -> Option<FakeTarget> {
        let Domain { facts, events, grants, share, .. } = self.domains.get(usize::from(id.0))?;
        let (facts, events, grants, share) = (facts.clone(), events.clone(), grants.clone(), share.clone());
        Some(FakeTarget { id, facts, events, grants, share })
    }

    fn target_from(&mut self, id: DomainId) -> Option<FakeTarget> {
        self.target(id)
    }

    fn memory_of(&mut self, target: &FakeTarget) -> impl Effects<Tables = Memory<true>> {
        InNameOf::new(self, target.id)
    }

    fn populate_for(&mut self, target: &FakeTarget, order: u8) -> Option<Mfn> {
        InNameOf::new(self, target.id).fake.populate(order)
    }

    fn create(&mut self, new: &NewDomain) -> Result<DomainId, Errno> {
        let id = new.id.unwrap_or(DomainId(DOMAINS as u16));
        if self.target(id).is_some() {
            return Err(Errno::EEXIST);
        }
        self.record.created.push(*new);
        Ok(id)
    }

    fn destroy(&mut self, target: &FakeTarget) -> bool {
        // Once more, as if that were what takes its time.
        let done = target.facts().dying;
        target.change(|facts| facts.dying = true);
        done
    }

    fn pause(&mut self, target: &FakeTarget) -> Result<(), Errno> {
        if target.facts().paused {
            return Err(Errno::EOVERFLOW);
        }
        target.change(|facts| facts.paused = true);
        Ok(())
    }

    fn unpause(&mut self, target: &FakeTarget) -> Result<(), Errno> {
        if !target.facts().paused {
            return Err(Errno::EINVAL);
        }
        target.change(|facts| facts.paused = false);
        Ok(())
    }

    fn reschedule(&mut self, target: &FakeTarget) {
        self.record.rescheduled.push(target.id);
    }

    fn take_vcpu(&mut self, target: &FakeTarget, id: VcpuId) -> Option<FakeParked> {
        InNameOf::new(self, target.id).fake.take_parked(id)
    }

    fn give_vcpu(&mut self, _: &FakeTarget, vcpu: FakeParked) {
        self.park(vcpu);
    }

    fn complain(&mut self, what: fmt::Arguments<'_>) {
        self.record.complaints.push(what.to_string());
    }
}
