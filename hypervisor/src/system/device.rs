//! The hardware, for the domain that has it: the control domain.

use core::ops::{Range, RangeInclusive};

use alloc::vec::Vec;

use crate::arch::boot::BootFacts;
use crate::arch::irq::DeviceInterrupts;
use crate::arch::{own, pci, ports};
use crate::device::Hardware;
use crate::device::interrupts::Interrupts;
use crate::device::ports::{Access, Ports};
use crate::emulate::Width;
use crate::mm::devices::DeviceFrames;

/// The interrupts of the domain that has the hardware.
pub static INTERRUPTS: Interrupts = Interrupts::new(&DeviceInterrupts);

/// What of the hardware is the hypervisor's own.
pub struct Own {
    ports: Vec<RangeInclusive<u16>>,
    frames: Vec<Range<u64>>,
}

impl Own {
    /// On this machine.
    pub fn find(facts: &BootFacts) -> Own {
        Own { ports: own::ports(&facts.acpi), frames: own::frames(&facts.acpi) }
    }

    /// All other hardware.
    pub fn others(&self) -> Hardware {
        Hardware {
            ports: Ports::all_but(self.ports.clone()),
            frames: DeviceFrames::all_but(&self.frames, own::end_of_frames()),
            interrupts: &INTERRUPTS,
        }
    }
}

/// Reads a port of the domain's.
pub fn port_read(hardware: &Hardware, port: u16, width: Width) -> u32 {
    match hardware.ports.access(port, width) {
        Access::Nowhere => width.mask(),
        Access::Port => ports::read(port, width),
        Access::ConfigAddress => hardware.ports.config_address(),
        Access::Config { address, port } => pci::read(address, port, width),
    }
}

/// Writes to a port of the domain's.
pub fn port_write(hardware: &Hardware, port: u16, width: Width, value: u32) {
    match hardware.ports.access(port, width) {
        Access::Nowhere => {}
        Access::Port => ports::write(port, width, value),
        Access::ConfigAddress => hardware.ports.set_config_address(value),
        Access::Config { address, port } => pci::write(address, port, width, value),
    }
}
