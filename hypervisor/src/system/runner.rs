//! A vCPU that can run, and the world as its hypercalls and its privileged instructions see it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering;
use domain_builder::hypercall_page;
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_TIMER;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::cpu::Local;
use super::memory::{self, Memory};
use super::{Domain, complain, console, control, cpu, descriptors, device, flush, machine, park, wake};
use crate::addr::{CpuId, DomainId, GuestVa, Mfn, PAGE_SIZE, Pfn, VcpuId};
use crate::arch::guest_frames::{self, Tables};
use crate::arch::mm::{self, tlb};
use crate::arch::vcpu::{self as machine_vcpu, CurrentSpace, MachineState};
use crate::arch::{apic, percpu, time};
use crate::bounce::GuestSpace;
use crate::device::Hardware;
use crate::domain::context::CpuContext;
use crate::domain::link::VcpuLink;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Gdt, Ldt, Mode, Vcpu};
use crate::emulate::io::nobodys_port;
use crate::emulate::{CpuidPolicy, GuestCpu, GuestTsc, Progress, Refused, SegmentBase, Width};
use crate::event::{Events, Kick};
use crate::grant::Grants;
use crate::guest::{Fault, GuestCopy};
use crate::hypercall::{self, DomainView, MachineFacts, NewDomain, Parked, Platform};
use crate::mm::flush::CpuSet;
use crate::mm::operation::{Freed, Mmu, Space};
use crate::mm::perform::{Effects, FramesLock, Unfinished};
use crate::sched::Account;
use crate::time::GuestRecord;

/// A vCPU, what the CPU holds for it, and its domain.
pub struct Runner {
    pub vcpu: Vcpu,
    pub state: MachineState,
    pub account: Account,
    pub domain: Arc<Domain>,
}

/// The world of the vCPU that is on this CPU.
pub struct World<'a> {
    pub domain: &'a Domain,
    /// One reference: each word of this is written anew for every hypercall.
    pub local: &'a mut Local,
}

impl Runner {
    /// A vCPU that has not run yet.
    pub fn new(vcpu: Vcpu, domain: Arc<Domain>) -> Runner {
        let account = Account::new(domain.share.clone(), domain.link(vcpu.id).affinity().clone());
        Runner { vcpu, state: MachineState::default(), account, domain }
    }

    /// What all CPUs share of the vCPU.
    #[inline]
    pub fn link(&self) -> &VcpuLink {
        self.domain.link(self.vcpu.id)
    }

    /// When its timers fire next, if that does anything.
    pub fn timer_deadline(&self) -> Option<u64> {
        self.vcpu.timers.deadline().filter(|_| self.domain.events.is_virq_bound(VIRQ_TIMER, self.vcpu.id))
    }
}

/// Kicks vCPUs from this CPU, whose flag it holds.
pub struct Kicker<'a>(pub &'a mut bool);

impl Kick for Kicker<'_> {
    fn kick(&mut self, vcpu: &VcpuLink) {
        wake::kick(vcpu, self.0);
    }
}

impl Domain {
    /// Raises a vCPU's timer interrupt. `attention` is this CPU's flag.
    pub fn raise_timer(&self, vcpu: VcpuId, attention: &mut bool) {
        self.events.raise(VIRQ_TIMER, vcpu).kick(&mut Kicker(attention));
    }
}

impl<'a> World<'a> {
    /// A vCPU and its world, for a runner that is on this CPU.
    #[inline]
    pub fn of(runner: &'a mut Runner, local: &'a mut Local) -> (&'a mut Vcpu, World<'a>) {
        (&mut runner.vcpu, World { domain: &runner.domain, local })
    }
}

impl Effects for World<'_> {
    type Tables = Tables;

    #[inline]
    fn mmu(&self) -> &Mmu<'_, Tables> {
        memory::mmu()
    }

    #[inline]
    fn space(&self) -> Space<'_> {
        self.domain.space()
    }

    #[inline]
    fn frames(&self) -> &dyn FramesLock {
        &self.domain.frames
    }

    fn retire(&mut self, freed: &mut Freed) {
        Memory(self.domain).retire(freed);
    }

    fn flush(&mut self, cpus: CpuSet) {
        flush::flush(cpus);
    }
}

impl GuestCopy for World<'_> {
    #[inline]
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        CurrentSpace.read_bytes(from, buf)
    }

    #[inline]
    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        CurrentSpace.write_bytes(to, bytes)
    }

    #[inline(always)]
    fn read<T: FromBytes + IntoBytes>(&mut self, from: u64) -> Result<T, Fault> {
        CurrentSpace.read(from)
    }

    #[inline(always)]
    fn write<T: IntoBytes + Immutable>(&mut self, to: u64, value: &T) -> Result<(), Fault> {
        CurrentSpace.write(to, value)
    }
}

impl GuestSpace for World<'_> {
    fn switch_mode(&mut self, vcpu: &Vcpu, to: Mode) {
        CurrentSpace.switch_mode(vcpu, to);
    }
}

impl Kick for World<'_> {
    fn kick(&mut self, vcpu: &VcpuLink) {
        wake::kick(vcpu, &mut self.local.attention);
    }
}

impl Parked for Box<Runner> {
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    fn load(&mut self, cpu: &CpuContext) {
        self.state = MachineState::new(cpu);
    }

    fn save(&self) -> CpuContext {
        self.state.context()
    }
}

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
        cpu::settle(parked);
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
        crate::arch::console::read_log(from, into)
    }

    fn clear_log(&mut self, before: u32) {
        crate::arch::console::clear_log(before);
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

    fn copy_page(&mut self, to: Mfn, from: Mfn) {
        guest_frames::copy(&machine().frames, to, from);
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

impl GuestCpu for World<'_> {
    fn is_64_bit_code(&mut self, selector: u16) -> bool {
        machine_vcpu::is_64_bit_code(selector)
    }

    fn cr0(&self) -> u64 {
        machine_vcpu::cr0()
    }

    fn set_task_switched(&mut self, on: bool) {
        machine_vcpu::set_task_switched(on);
    }

    fn load_kernel_root(&mut self, vcpu: &mut Vcpu, root: Mfn) -> Result<Progress, Refused> {
        match hypercall::new_kernel_root(vcpu, self, &mut { memory::STEP }, root) {
            Ok(()) => Ok(Progress::Done),
            Err(Unfinished::Again) => Ok(Progress::Again),
            Err(Unfinished::Refused(_)) => Err(Refused),
        }
    }

    fn load_cr4(&mut self, cr4: u64) {
        machine_vcpu::load_cr4(cr4);
    }

    fn load_xcr0(&mut self, xcr0: u64) {
        machine_vcpu::load_xcr0(xcr0);
    }

    fn load_debug_registers(&mut self, registers: [u64; 8]) {
        machine_vcpu::load_debug_registers(registers);
    }

    fn segment_base(&self, which: SegmentBase) -> u64 {
        machine_vcpu::base(which)
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        machine_vcpu::set_base(which, base);
    }

    fn load_tsc_aux(&mut self, value: u32) {
        machine_vcpu::load_tsc_aux(value);
    }

    fn tsc(&self) -> u64 {
        time::tsc()
    }

    fn install_hypercall_page(&mut self, vcpu: &mut Vcpu, frame: Mfn) -> Result<Progress, Refused> {
        let (memory, owner) = (Memory(self.domain), self.domain.id);
        let step = memory.step(&mut vcpu.pending, |op, _| {
            op.take_writable(frame, owner)?;
            write_hypercall_page(frame);
            op.put_writable(frame);
            Ok(())
        });
        match step {
            Ok(()) => Ok(Progress::Done),
            Err(Unfinished::Again) => Ok(Progress::Again),
            Err(Unfinished::Refused(_)) => Err(Refused),
        }
    }

    fn write_back_caches(&mut self) {}

    fn read_kernel_bytes(&mut self, vcpu: &Vcpu, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        machine_vcpu::load_root(vcpu.roots.kernel);
        let read = CurrentSpace.read_bytes(from, buf);
        machine_vcpu::load_root(vcpu.root());
        read
    }

    fn port_read(&mut self, port: u16, width: Width) -> u32 {
        match &self.domain.hardware {
            Some(hardware) => device::port_read(hardware, port, width),
            None => nobodys_port(port, width),
        }
    }

    fn port_write(&mut self, port: u16, width: Width, value: u32) {
        if let Some(hardware) = &self.domain.hardware {
            device::port_write(hardware, port, width, value);
        }
    }

    fn cpuid_policy(&self) -> &CpuidPolicy {
        &machine().cpuid
    }

    fn guest_tsc(&self) -> GuestTsc {
        let clock = time::clock();
        let record = clock.guest_record(time::tsc());
        GuestTsc {
            khz: u32::try_from(clock.khz()).unwrap_or(u32::MAX),
            offset: record.system_time.wrapping_sub(record.scale.apply(record.tsc_timestamp)),
            mul: record.scale.mul,
            shift: record.scale.shift,
        }
    }
}

/// Writes hypercall stubs to a frame that is held as writable.
fn write_hypercall_page(mfn: Mfn) {
    let mut page = [0; PAGE_SIZE];
    hypercall_page::fill(&mut page);
    guest_frames::write(&machine().frames, mfn, 0, &page);
}
