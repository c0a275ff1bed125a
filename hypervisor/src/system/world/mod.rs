//! The world of a vCPU that is on this CPU, as the pure modules see it through their seams: memory rules
//! ([`Effects`]), guest memory ([`GuestCopy`], [`GuestSpace`]), hypercalls (`platform`), privileged instructions (`guest_cpu`).

mod guest_cpu;
mod platform;

use domain_builder::hypercall_page;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::cpu::Local;
use super::memory::{self, Memory};
use super::runner::Runner;
use super::{Domain, flush, machine, wake};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::arch::guest_frames::{self, Tables};
use crate::arch::vcpu::CurrentSpace;
use crate::bounce::GuestSpace;
use crate::domain::link::VcpuLink;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::event::Kick;
use crate::guest::{Fault, GuestCopy};
use crate::mm::flush::CpuSet;
use crate::mm::operation::{Freed, Mmu, Space};
use crate::mm::perform::{Effects, FramesLock};

/// The world of the vCPU that is on this CPU.
pub struct World<'a> {
    pub domain: &'a Domain,
    /// One reference: each word of this is written anew for every hypercall.
    pub local: &'a mut Local,
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

/// Writes hypercall stubs to a frame that is held as writable.
fn write_hypercall_page(mfn: Mfn) {
    let mut page = [0; PAGE_SIZE];
    hypercall_page::fill(&mut page);
    guest_frames::write(&machine().frames, mfn, 0, &page);
}
