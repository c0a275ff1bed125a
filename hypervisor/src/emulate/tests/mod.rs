//! A machine that records what it is asked for, and a guest that executes one instruction on it.

mod control;
mod decode;
mod io;
mod iretq;
mod msr;
mod table_store;
mod trap;

use super::*;
use crate::addr::{DomainId, Mfn, PAGE_SIZE, VcpuId};
use crate::domain::link::VcpuLink;
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Control, Gate};
use crate::guest::{Fault, GuestCopy, check_span};
use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::vec::Vec;

/// Where guest code is.
const CODE: u64 = 0x40_0000;
/// A writable page.
const DATA: u64 = 0x50_0000;
const IOPL_OF_LINUX: u8 = 1;
const GP: Outcome = Outcome::Raise(Exception::with_code(13, 0));
const UD: Outcome = Outcome::Raise(Exception::new(6));

/// What was done to the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Effect {
    TaskSwitched(bool),
    Cr4(u64),
    Xcr0(u64),
    Debug([u64; 8]),
    Base(SegmentBase, u64),
    TscAux(u32),
    HypercallPage(Mfn),
    Root(Mfn),
    Caches,
    Out(u16, Width, u32),
}

struct Machine {
    bytes: BTreeMap<u64, u8>,
    /// Pages that can be read, and written except for the code's.
    pages: BTreeSet<u64>,
    effects: Vec<Effect>,
    policy: CpuidPolicy,
    bases: [u64; 3],
    /// The bytes that each read of a port gives.
    port: Option<u32>,
    refuses: bool,
    long_selectors: BTreeSet<u16>,
}

impl GuestCopy for Machine {
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        check_span(from, buf.len())?;
        for (offset, byte) in (0..).zip(buf) {
            let address = from + offset;
            self.pages.contains(&(address / PAGE_SIZE as u64)).then_some(()).ok_or(Fault(address))?;
            *byte = self.bytes.get(&address).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        check_span(to, bytes.len())?;
        for (offset, byte) in (0..).zip(bytes) {
            let address = to + offset;
            let page = address / PAGE_SIZE as u64;
            (page == DATA / PAGE_SIZE as u64).then_some(()).ok_or(Fault(address))?;
            self.bytes.insert(address, *byte);
        }
        Ok(())
    }
}

impl GuestCpu for Machine {
    fn is_64_bit_code(&mut self, selector: u16) -> bool {
        self.long_selectors.contains(&selector)
    }

    fn cr0(&self) -> u64 {
        0x8005_0033
    }

    fn set_task_switched(&mut self, on: bool) {
        self.effects.push(Effect::TaskSwitched(on));
    }

    fn load_kernel_root(&mut self, vcpu: &mut Vcpu, root: Mfn) -> Result<Progress, Refused> {
        if self.refuses {
            return Err(Refused);
        }
        vcpu.roots.kernel = Some(root);
        self.effects.push(Effect::Root(root));
        Ok(Progress::Done)
    }

    fn load_cr4(&mut self, cr4: u64) {
        self.effects.push(Effect::Cr4(cr4));
    }

    fn load_xcr0(&mut self, xcr0: u64) {
        self.effects.push(Effect::Xcr0(xcr0));
    }

    fn load_debug_registers(&mut self, registers: [u64; 8]) {
        self.effects.push(Effect::Debug(registers));
    }

    fn segment_base(&self, which: SegmentBase) -> u64 {
        self.bases[which as usize]
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        self.bases[which as usize] = base;
        self.effects.push(Effect::Base(which, base));
    }

    fn load_tsc_aux(&mut self, value: u32) {
        self.effects.push(Effect::TscAux(value));
    }

    fn tsc(&self) -> u64 {
        0x1111_2222_3333
    }

    fn install_hypercall_page(&mut self, _: &mut Vcpu, frame: Mfn) -> Result<Progress, Refused> {
        if self.refuses {
            return Err(Refused);
        }
        self.effects.push(Effect::HypercallPage(frame));
        Ok(Progress::Done)
    }

    fn write_back_caches(&mut self) {
        self.effects.push(Effect::Caches);
    }

    fn read_kernel_bytes(&mut self, _: &Vcpu, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.read_bytes(from, buf)
    }

    fn port_read(&mut self, _port: u16, width: Width) -> u32 {
        self.port.unwrap_or(width.mask())
    }

    fn port_write(&mut self, port: u16, width: Width, value: u32) {
        self.effects.push(Effect::Out(port, width, value));
    }

    fn cpuid_policy(&self) -> &CpuidPolicy {
        &self.policy
    }

    fn guest_tsc(&self) -> GuestTsc {
        GuestTsc { khz: 2_000_000, ..GuestTsc::default() }
    }
}

/// A vCPU at the start of its code.
struct Guest {
    vcpu: Vcpu,
    regs: GuestRegisters,
    machine: Machine,
}

impl Guest {
    /// A kernel that has the I/O privilege Linux asks for.
    fn kernel(code: &[u8]) -> Guest {
        let mut guest = Guest::at(CODE, code);
        guest.vcpu.control.iopl = IOPL_OF_LINUX;
        guest
    }

    fn user(code: &[u8]) -> Guest {
        let mut guest = Guest::kernel(code);
        guest.vcpu.mode = Mode::User;
        guest
    }

    fn at(rip: u64, code: &[u8]) -> Guest {
        let page = PAGE_SIZE as u64;
        let info = Box::leak(Box::new(VcpuInfo::default()));
        let mut vcpu = Vcpu::new(&VcpuLink::new(DomainId(1), VcpuId(0), info), Arc::default());
        vcpu.roots.kernel = Some(Mfn(0x1234));
        let machine = Machine {
            bytes: (0..).zip(code).map(|(offset, &byte)| (rip.wrapping_add(offset), byte)).collect(),
            pages: BTreeSet::from([rip / page, DATA / page]),
            effects: Vec::new(),
            policy: CpuidPolicy::new(cpuid::tests::modern_host),
            bases: [0x10, 0x20, 0x30],
            port: None,
            refuses: false,
            long_selectors: BTreeSet::new(),
        };
        let regs = GuestRegisters { rip, cs: 0xe033, rflags: 0x202 | RFLAGS_RF, ..Default::default() };
        Guest { vcpu, regs, machine }
    }

    fn gp(&mut self) -> Outcome {
        general_protection(&mut self.vcpu, &mut self.regs, &mut self.machine)
    }

    fn ud(&mut self) -> Outcome {
        invalid_opcode(&mut self.vcpu, &mut self.regs, &mut self.machine)
    }

    /// Executes, and expects that the guest goes on behind the instruction.
    #[track_caller]
    fn runs(&mut self, length: u64) {
        let rip = self.regs.rip;
        assert_eq!(self.gp(), Outcome::Resume);
        assert_eq!(self.regs.rip, rip + length);
        assert_eq!(self.regs.rflags & RFLAGS_RF, 0);
    }

    /// Executes, and expects an exception and that nothing happened.
    #[track_caller]
    fn raises(&mut self, outcome: Outcome) {
        let (regs, control) = (self.regs, self.vcpu.control);
        assert_eq!(self.gp(), outcome);
        assert_eq!(self.regs, regs);
        assert_eq!(self.vcpu.control, control);
        assert_eq!(self.machine.effects, []);
    }
}
