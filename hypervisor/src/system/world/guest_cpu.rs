//! What privileged instructions need of the machine.

use super::{World, write_hypercall_page};
use crate::addr::Mfn;
use crate::arch::time;
use crate::arch::vcpu::{self as machine_vcpu, CurrentSpace};
use crate::domain::vcpu::Vcpu;
use crate::emulate::io::nobodys_port;
use crate::emulate::{CpuidPolicy, GuestCpu, GuestTsc, Progress, Refused, SegmentBase, Width};
use crate::guest::{Fault, GuestCopy};
use crate::hypercall;
use crate::mm::perform::Unfinished;
use crate::system::memory::{self, Memory};
use crate::system::{device, machine};

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
