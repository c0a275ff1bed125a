//! Port I/O. The machine decides which ports there are for a domain. One without devices reads what [`nobodys_port`] says and
//! writes into the void, which is what Linux's probing expects of an empty bus; a fault there ends its boot.

use super::cpu::{GuestCpu, Progress};
use super::execute::{Context, NOT_ALLOWED, low};
use super::instruction::{AddressSize, Gpr, Port, Segment, Width};
use crate::addr::is_canonical;
use crate::bounce::Exception;
use crate::domain::vcpu::{IoBitmap, Mode};
use crate::guest::Fault;

/// Error code of a page fault: it was a write.
const WRITE: u32 = 1 << 1;
/// Error code of a page fault: it was a user's access.
const USER: u32 = 1 << 2;

/// The PIT's counter 2. Linux measures the CPU's clock by it before it takes the hypervisor's word, and waits for it to count.
const PIT_COUNTER: u16 = 0x42;

/// What a domain without hardware reads: all ones, as on a bus where nobody answers. The PIT's counter stands at 0: with all
/// ones there Linux would look fifty thousand times whether it counts.
pub fn nobodys_port(port: u16, width: Width) -> u32 {
    if port == PIT_COUNTER { 0 } else { width.mask() }
}

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

    /// One step of INS. When the store faults, the port has been read already, and the value is
    /// lost: a driver that reads data so has its buffer mapped.
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
        let from = self.base_of(segment).wrapping_add(size.clip(self.regs.rsi));
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
        if self.has_io_privilege() || self.bitmap_allows(port, width) { Ok(port) } else { Err(NOT_ALLOWED) }
    }

    /// Whether the bitmap that the guest kernel set allows all bytes of a port. It is in the kernel's memory, which the
    /// guest changes as it likes.
    fn bitmap_allows(&mut self, port: u16, width: Width) -> bool {
        let IoBitmap { address, ports } = self.vcpu.io_bitmap;
        let (byte, bit, count) = (u64::from(port) / 8, usize::from(port) % 8, width.bytes());
        if usize::from(port) + count > ports as usize {
            return false;
        }
        // The bits may lie across two bytes.
        let mut bits = [0; 2];
        let wanted = if bit + count > 8 { &mut bits[..] } else { &mut bits[..1] };
        let read = self.cpu.read_kernel_bytes(self.vcpu, address.wrapping_add(byte), wanted);
        let denied = ((1 << count) - 1) << bit;
        read.is_ok() && u16::from_le_bytes(bits) & denied == 0
    }

    /// What follows a step's access.
    fn step(&mut self, address: Gpr, width: Width, size: AddressSize, repeat: bool) -> Progress {
        self.move_on(address, width.bytes() as u64, size);
        self.count_down(size, repeat)
    }

    /// What the CPU raises for a memory operand that can't be reached. Whether the page was present isn't known; "not
    /// present" makes the guest look for itself.
    fn memory_fault(&self, Fault(address): Fault, access: u32) -> Exception {
        if !is_canonical(address) {
            return NOT_ALLOWED;
        }
        self.vcpu.info.set_cr2(address);
        let user = if self.vcpu.mode == Mode::User { USER } else { 0 };
        Exception::page_fault(access | user)
    }
}
