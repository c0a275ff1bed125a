//! Port I/O. A domain without devices reads all ones and writes into the void, which is what Linux's probing expects
//! of an empty bus; a fault there ends its boot.

use super::PAGE_FAULT;
use super::cpu::Progress;
use super::cpu::{GuestCpu, SegmentBase};
use super::execute::{Context, NOT_ALLOWED, low};
use super::instruction::{AddressSize, Gpr, Port, Segment, Width};
use crate::addr::is_canonical;
use crate::bounce::Exception;
use crate::domain::vcpu::Mode;
use crate::guest::Fault;

/// RFLAGS.DF: string instructions go towards lower addresses.
const RFLAGS_DF: u64 = 1 << 10;
/// Error code of a page fault: it was a write.
const WRITE: u32 = 1 << 1;
/// Error code of a page fault: it was a user's access.
const USER: u32 = 1 << 2;

impl<C: GuestCpu> Context<'_, C> {
    /// IN.
    pub fn input(&mut self, port: Port, width: Width) -> Result<(), Exception> {
        let port = self.checked_port(port, width)?;
        let value = self.cpu.port_read(port, width) & width.mask();
        let kept = match width {
            Width::Byte => self.regs.rax & !0xff,
            Width::Word => self.regs.rax & !0xffff,
            // A 32-bit result clears the upper half, as every such result does.
            Width::Dword => 0,
        };
        self.regs.rax = kept | u64::from(value);
        Ok(())
    }

    /// OUT.
    pub fn output(&mut self, port: Port, width: Width) -> Result<(), Exception> {
        let port = self.checked_port(port, width)?;
        self.cpu.port_write(port, width, low(self.regs.rax) & width.mask());
        Ok(())
    }

    /// One step of INS. When the store faults, the port has been read already; the value is lost, as no port that can
    /// be reached from here cares.
    pub fn input_string(&mut self, width: Width, size: AddressSize, repeat: bool) -> Result<Progress, Exception> {
        let port = self.checked_port(Port::Dx, width)?;
        if self.is_exhausted(size, repeat) {
            return Ok(Progress::Done);
        }
        let to = size.clip(self.regs.rdi);
        let bytes = self.cpu.port_read(port, width).to_le_bytes();
        let bytes = bytes.get(..width.bytes()).unwrap_or_default();
        self.cpu.write_bytes(to, bytes).map_err(|fault| self.memory_fault(fault, WRITE))?;
        Ok(self.step(Gpr::Rdi, width, size, repeat))
    }

    /// One step of OUTS.
    pub fn output_string(
        &mut self,
        width: Width,
        size: AddressSize,
        repeat: bool,
        segment: Segment,
    ) -> Result<Progress, Exception> {
        let port = self.checked_port(Port::Dx, width)?;
        if self.is_exhausted(size, repeat) {
            return Ok(Progress::Done);
        }
        let base = match segment {
            Segment::Flat => 0,
            Segment::Fs => self.cpu.segment_base(SegmentBase::Fs),
            Segment::Gs => self.cpu.segment_base(SegmentBase::GsActive),
        };
        let from = base.wrapping_add(size.clip(self.regs.rsi));
        let mut bytes = [0; 4];
        let used = bytes.get_mut(..width.bytes()).unwrap_or_default();
        self.cpu.read_bytes(from, used).map_err(|fault| self.memory_fault(fault, 0))?;
        self.cpu.port_write(port, width, u32::from_le_bytes(bytes));
        Ok(self.step(Gpr::Rsi, width, size, repeat))
    }

    /// The port's number, if the guest may use it.
    fn checked_port(&mut self, port: Port, width: Width) -> Result<u16, Exception> {
        let port = match port {
            Port::Immediate(number) => number.into(),
            Port::Dx => (self.regs.rdx & 0xffff) as u16,
        };
        if self.has_io_privilege() || self.cpu.io_bitmap_allows(port, width) { Ok(port) } else { Err(NOT_ALLOWED) }
    }

    fn is_exhausted(&self, size: AddressSize, repeat: bool) -> bool {
        repeat && size.clip(self.regs.rcx) == 0
    }

    /// Moves the address register on, counts, and says whether there is more to do.
    fn step(&mut self, address: Gpr, width: Width, size: AddressSize, repeat: bool) -> Progress {
        let distance = width.bytes() as u64;
        let backwards = self.regs.rflags & RFLAGS_DF != 0;
        let register = address.of(self.regs);
        let moved = if backwards { register.wrapping_sub(distance) } else { register.wrapping_add(distance) };
        *register = size.clip(moved);
        if !repeat {
            return Progress::Done;
        }
        self.regs.rcx = size.clip(self.regs.rcx.wrapping_sub(1));
        if self.regs.rcx == 0 { Progress::Done } else { Progress::Again }
    }

    /// What the CPU raises for a memory operand that can't be reached. Whether the page was present isn't known; "not
    /// present" makes the guest look for itself.
    fn memory_fault(&self, Fault(address): Fault, access: u32) -> Exception {
        if !is_canonical(address) {
            return NOT_ALLOWED;
        }
        self.vcpu.info.set_cr2(address);
        let user = if self.vcpu.mode == Mode::User { USER } else { 0 };
        Exception::with_code(PAGE_FAULT, access | user)
    }
}

impl AddressSize {
    /// The part of an address register or count that is used.
    const fn clip(self, value: u64) -> u64 {
        match self {
            AddressSize::Bits32 => value & 0xffff_ffff,
            AddressSize::Bits64 => value,
        }
    }
}
