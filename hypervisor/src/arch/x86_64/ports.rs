//! I/O ports, for the domain that has the hardware.

use x86_64::instructions::port::Port;

use crate::emulate::Width;

/// Reads a port.
///
/// The caller has decided that the port's device is not the hypervisor's ([`crate::device::ports`]).
pub fn read(port: u16, width: Width) -> u32 {
    // SAFETY: a device that isn't the hypervisor's has no hold on the hypervisor's memory but by DMA, with which the domain
    // that drives it is trusted anyway.
    unsafe {
        match width {
            Width::Byte => Port::<u8>::new(port).read().into(),
            Width::Word => Port::<u16>::new(port).read().into(),
            Width::Dword => Port::<u32>::new(port).read(),
        }
    }
}

/// Writes the low bits of a value to a port. As for [`read`].
pub fn write(port: u16, width: Width, value: u32) {
    let [byte, high, ..] = value.to_le_bytes();
    // SAFETY: as in `read`.
    unsafe {
        match width {
            Width::Byte => Port::<u8>::new(port).write(byte),
            Width::Word => Port::<u16>::new(port).write(u16::from_le_bytes([byte, high])),
            Width::Dword => Port::<u32>::new(port).write(value),
        }
    }
}
