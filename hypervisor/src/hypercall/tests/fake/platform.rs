//! What the handlers of hypercalls ask of it.

use core::fmt;
use std::boxed::Box;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use super::target::{FakeParked, FakeTarget, InNameOf};
use super::{CPUS, Domain, Fake};
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, Pfn, VcpuId, is_canonical};
use crate::device::Hardware;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::Events;
use crate::grant::Grants;
use crate::hypercall::{DomainFacts, DomainView, MachineFacts, NewDomain, Platform, Target};
use crate::mm::flush::CpuSet;
use crate::mm::m2p;
use crate::mm::perform::Effects;
use crate::mm::state::FrameType;
use crate::mm::tests::machine::{DOMAINS, Memory};
use crate::time::{Clock, GuestRecord};
use pv_abi::errno::Errno;

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
        let DomainFacts { max_pages, handle, .. } = self.domains[self.domain].facts.get();
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

    fn console_write(&mut self, bytes: &[u8]) -> bool {
        let may = !self.prints.fails();
        if may {
            self.record.printed.extend_from_slice(bytes);
        }
        may
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

    fn populate(&mut self, order: u8, pfn: Option<Pfn>) -> Option<Mfn> {
        let (count, table) = (1 << order, self.mmu.frames);
        let Domain { frames, facts, .. } = &self.domains[self.domain];
        let mut frames = frames.0.try_borrow_mut().expect("no lock is held");
        if self.allocations.fails() || frames.allocated() + count > facts.get().max_pages {
            return None;
        }
        let block = self.allocator.alloc(&table, order)?;
        (0..count).for_each(|n| self.machine.memory.clear(block.mfn.offset(n)));
        if let Some(pfn) = pfn {
            m2p::set_all(&self.machine.memory, block.mfn, pfn, count);
        }
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

    fn populate_for(&mut self, target: &FakeTarget, order: u8, pfn: Option<Pfn>) -> Option<Mfn> {
        InNameOf::new(self, target.id).fake.populate(order, pfn)
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
