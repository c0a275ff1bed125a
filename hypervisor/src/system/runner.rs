//! A vCPU that can run, and the world as its hypercalls and its privileged instructions see it.

use core::sync::atomic::Ordering;

use alloc::sync::Arc;

use super::{Domain, console, machine};
use crate::addr::{DomainId, Mfn};
use crate::arch::time;
use crate::arch::vcpu::{self as machine_vcpu, CurrentSpace, MachineState};
use crate::bounce::GuestSpace;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::emulate::{CpuidPolicy, GuestCpu, GuestTsc, Refused, SegmentBase, Width};
use crate::guest::{Fault, GuestCopy};
use crate::hypercall::{DomainView, Platform};

/// A vCPU, what the CPU holds for it, and its domain.
pub struct Runner {
    pub vcpu: Vcpu,
    pub state: MachineState,
    pub domain: Arc<Domain>,
}

/// The world of the vCPU that is on this CPU.
pub struct World<'a> {
    pub domain: &'a Domain,
    pub info: &'static VcpuInfo,
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
}

impl GuestSpace for World<'_> {
    fn switch_mode(&mut self, vcpu: &Vcpu, to: Mode) {
        CurrentSpace.switch_mode(vcpu, to);
    }
}

impl Platform for World<'_> {
    fn now(&mut self) -> u64 {
        time::now()
    }

    fn domain(&self) -> DomainView<'_> {
        let domain = self.domain;
        DomainView {
            vcpus: domain.vcpus,
            online: domain.live.load(Ordering::Relaxed),
            pages: domain.pages,
            max_pages: domain.pages,
            handle: domain.handle,
            shared: domain.shared,
        }
    }

    fn domain_exists(&self, id: DomainId) -> bool {
        machine().domains.lock().iter().any(|domain| domain.id == id)
    }

    fn max_mfn(&self) -> Mfn {
        machine().frames.end()
    }

    fn console_write(&mut self, bytes: &[u8]) {
        console::write(self.domain, bytes);
    }

    fn console_read(&mut self, buf: &mut [u8]) -> usize {
        console::read(self.domain.id, buf)
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        machine_vcpu::set_base(which, base);
    }

    fn load_inactive_gs(&mut self, selector: u16) {
        machine_vcpu::load_inactive_gs(selector);
    }

    fn set_task_switched(&mut self, on: bool) {
        machine_vcpu::set_task_switched(on);
    }
}

impl GuestCpu for World<'_> {
    fn is_64_bit_code(&mut self, selector: u16) -> bool {
        machine_vcpu::is_64_bit_code(selector)
    }

    fn cr0(&self) -> u64 {
        machine_vcpu::cr0()
    }

    fn cr2(&self) -> u64 {
        self.info.cr2()
    }

    fn set_task_switched(&mut self, on: bool) {
        machine_vcpu::set_task_switched(on);
    }

    fn load_kernel_root(&mut self, vcpu: &mut Vcpu, root: Mfn) -> Result<(), Refused> {
        // There is no other root that a guest could have yet; loading the same one flushes the TLB.
        if root != vcpu.kernel_root {
            return Err(Refused);
        }
        machine_vcpu::enter_guest_space(vcpu);
        Ok(())
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

    fn install_hypercall_page(&mut self, _frame: Mfn) -> Result<(), Refused> {
        // The frame might be one of the guest's page tables. Until running guests' frames have types, only the ELF
        // note, which is read before the guest runs, gets a hypercall page.
        Err(Refused)
    }

    fn write_back_caches(&mut self) {}

    fn io_bitmap_allows(&mut self, _port: u16, _width: Width) -> bool {
        false
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
