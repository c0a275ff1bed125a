//! What hypercalls need of the machine.

use core::fmt;
use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::sync::Arc;

use pv_abi::errno::Errno;

use super::{World, write_hypercall_page};
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, PAGE_SIZE, Pfn, VcpuId};
use crate::arch::guest_frames::{self, Tables};
use crate::arch::mm::{self, tlb};
use crate::arch::{apic, console as machine_console, percpu, time, vcpu as machine_vcpu};
use crate::device::Hardware;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::emulate::SegmentBase;
use crate::event::Events;
use crate::grant::Grants;
use crate::hypercall::{DomainView, MachineFacts, NewDomain, Platform};
use crate::mm::perform::Effects;
use crate::system::memory::{self, Memory};
use crate::system::runner::Runner;
use crate::system::{Domain, complain, console, control, descriptors, flush, machine, park, queues, wake};
use crate::time::GuestRecord;

impl Platform for World<'_> {
    type Parked = Box<Runner>;
    type Target = Arc<Domain>;

    fn now(&mut self) -> u64 {
        time::now()
    }

    fn clock_record(&self) -> GuestRecord {
        time::clock().guest_record(time::tsc())
    }

    fn take_parked(&mut self, id: VcpuId) -> Option<Box<Runner>> {
        self.domain.take_parked(id)
    }

    fn park(&mut self, parked: Box<Runner>) {
        queues::settle(parked);
    }

    fn bring_up(&mut self, id: VcpuId) {
        self.domain.link(id).set_up(true);
        park::unpark(self.domain);
    }

    fn take_down(&mut self, id: VcpuId) {
        let link = self.domain.link(id);
        link.set_up(false);
        wake::stop(link, &mut self.local.attention);
    }

    fn vcpu_info(&self, mfn: Mfn, offset: usize) -> &'static VcpuInfo {
        guest_frames::vcpu_info(&machine().frames, mfn, offset)
    }

    fn timers_changed(&mut self, vcpu: &Vcpu) {
        // If the timer is set for an earlier time, what is next is looked up then.
        let deadline = vcpu.timers.deadline();
        if deadline.is_some_and(|at| self.local.timer.is_none_or(|set| at < set)) {
            apic::set_timer(deadline);
            self.local.timer = deadline;
        }
    }

    fn domain(&self) -> DomainView {
        let domain = self.domain;
        let max_pages = domain.max_pages.load(Ordering::Relaxed);
        DomainView { vcpus: domain.vcpu_count(), max_pages, handle: *domain.handle.lock() }
    }

    #[inline]
    fn events(&self) -> &Arc<Events> {
        &self.domain.events
    }

    fn events_of(&self, id: DomainId) -> Option<Arc<Events>> {
        machine().domains.lock().iter().find(|domain| domain.id == id).map(|domain| domain.events.clone())
    }

    #[inline]
    fn grants(&self) -> &Arc<Grants> {
        &self.domain.grants
    }

    fn grants_of(&self, id: DomainId) -> Option<Arc<Grants>> {
        control::find(id).filter(|domain| !domain.is_ending()).map(|domain| domain.grants.clone())
    }

    fn has_memory_to_spare(&self) -> bool {
        memory::can_spare(PAGE_SIZE)
    }

    fn share_frame(&mut self, target: &Arc<Domain>) -> Option<Mfn> {
        Memory(target).share()
    }

    fn max_mfn(&self) -> Mfn {
        machine().frames.end()
    }

    fn read_log(&mut self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        machine_console::read_log(from, into)
    }

    fn clear_log(&mut self, before: u32) {
        machine_console::clear_log(before);
    }

    fn cr4_mask(&self) -> u64 {
        machine().cpuid.cr4_mask()
    }

    fn m2p_frames(&self, number: u64) -> Option<Mfn> {
        mm::m2p_frames(number)
    }

    fn console_write(&mut self, bytes: &[u8]) -> bool {
        console::write(self.domain, bytes)
    }

    fn console_read(&mut self, buf: &mut [u8]) -> usize {
        console::read(self.domain.id, buf)
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        machine_vcpu::set_base(which, base);
    }

    fn load_inactive_gs(&mut self, vcpu: &mut Vcpu, selector: u16) {
        descriptors::touch(self.domain, vcpu, &mut self.local.tables, selector);
        machine_vcpu::load_inactive_gs(selector);
    }

    #[inline]
    fn set_task_switched(&mut self, on: bool) {
        machine_vcpu::set_task_switched(on);
    }

    fn load_debug_registers(&mut self, registers: [u64; 8]) {
        machine_vcpu::load_debug_registers(registers);
    }

    fn this_cpu(&self) -> CpuId {
        percpu::cpu()
    }

    #[inline]
    fn flush_here(&mut self) {
        flush::flush_here();
    }

    #[inline]
    fn flush_address(&mut self, address: GuestVa) {
        tlb::flush_address(address.get());
    }

    fn load_root(&mut self, vcpu: &Vcpu) {
        machine_vcpu::load_root(vcpu.root());
        flush::flush_here();
    }

    fn show_gdt(&mut self, gdt: &Gdt) {
        self.local.tables.show_gdt(gdt);
    }

    fn show_ldt(&mut self, ldt: &Ldt) {
        self.local.tables.show_ldt(ldt);
    }

    fn page_owner(&self, id: DomainId) -> Result<DomainId, Errno> {
        // Of a domain that is being taken apart nobody gets hold of more.
        let owner = control::find(id).filter(|domain| !domain.is_ending()).ok_or(Errno::ESRCH)?;
        if self.domain.privileged { Ok(owner.id) } else { Err(Errno::EPERM) }
    }

    fn populate(&mut self, order: u8, pfn: Option<Pfn>) -> Option<Mfn> {
        Memory(self.domain).populate(order, pfn)
    }

    fn free_reclaimed(&mut self, mfn: Mfn) {
        Memory(self.domain).free_reclaimed(mfn);
    }

    fn clear_page(&mut self, mfn: Mfn) {
        guest_frames::clear(&machine().frames, mfn);
    }

    fn fill_hypercall_page(&mut self, mfn: Mfn) {
        write_hypercall_page(mfn);
    }

    fn is_privileged(&self) -> bool {
        self.domain.privileged
    }

    fn hardware(&self) -> Option<&Arc<Hardware>> {
        self.domain.hardware.as_ref()
    }

    fn machine(&self) -> MachineFacts {
        control::facts()
    }

    fn target(&mut self, id: DomainId) -> Option<Arc<Domain>> {
        control::find(id)
    }

    fn target_from(&mut self, id: DomainId) -> Option<Arc<Domain>> {
        control::find_from(id)
    }

    fn memory_of(&mut self, target: &Arc<Domain>) -> impl Effects<Tables = Tables> {
        Memory(target)
    }

    fn populate_for(&mut self, target: &Arc<Domain>, order: u8, pfn: Option<Pfn>) -> Option<Mfn> {
        Memory(target).populate(order, pfn)
    }

    fn create(&mut self, new: &NewDomain) -> Result<DomainId, Errno> {
        control::create(new)
    }

    fn destroy(&mut self, target: &Arc<Domain>) -> bool {
        control::destroy(target, &mut self.local.attention)
    }

    fn pause(&mut self, target: &Arc<Domain>) -> Result<(), Errno> {
        control::pause(target, &mut self.local.attention)
    }

    fn unpause(&mut self, target: &Arc<Domain>) -> Result<(), Errno> {
        control::unpause(target)
    }

    fn reschedule(&mut self, target: &Arc<Domain>) {
        control::reschedule(target, &mut self.local.attention);
    }

    fn take_vcpu(&mut self, target: &Arc<Domain>, id: VcpuId) -> Option<Box<Runner>> {
        control::take_vcpu(target, id, &mut self.local.attention)
    }

    fn give_vcpu(&mut self, target: &Arc<Domain>, vcpu: Box<Runner>) {
        control::give_vcpu(target, vcpu);
    }

    fn complain(&mut self, what: fmt::Arguments<'_>) {
        complain::complain(self.domain, what);
    }
}
