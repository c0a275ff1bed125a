//! Configuration space by its two ports: an address, and what it selects. PCI Local Bus 3.0, section 3.2.2.3.2.
//!
//! The hypervisor keeps the address apart from its own, so that nobody comes between the two.

use guest_kernel::sync::Mutex;
use guest_kernel::{hypercall, ports};
use pci_types::{ConfigRegionAccess, PciAddress};
use pv_abi::errno::Errno;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;

/// Held from the write of an address to the access to its data.
static LOCK: Mutex<()> = Mutex::new(());

/// Configuration space.
#[derive(Clone, Copy)]
pub struct Ports(());

impl Ports {
    /// Takes the right to use ports.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn open() -> Result<Ports, Errno> {
        hypercall::set_iopl(1).map(|()| Ports(()))
    }
}

fn select(address: PciAddress, offset: u16) {
    let place = u32::from(address.bus()) << 16 | u32::from(address.device()) << 11 | u32::from(address.function()) << 8;
    // SAFETY: a write to the address register has no effect on its own.
    unsafe { ports::write_u32(ADDRESS, ENABLED | place | u32::from(offset) & 0xfc) };
}

impl ConfigRegionAccess for Ports {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        let _lock = LOCK.lock();
        select(address, offset);
        // SAFETY: reading configuration space changes nothing.
        unsafe { ports::read_u32(DATA) }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let _lock = LOCK.lock();
        select(address, offset);
        // SAFETY: `address` and `offset` are valid for a write, as the caller promises.
        unsafe { ports::write_u32(DATA, value) };
    }
}

fn place(of: DeviceFunction) -> PciAddress {
    PciAddress::new(0, of.bus, of.device, of.function)
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, device_function: DeviceFunction, register_offset: u8) -> u32 {
        // SAFETY: reading configuration space changes nothing.
        unsafe { self.read(place(device_function), register_offset.into()) }
    }

    fn write_word(&mut self, device_function: DeviceFunction, register_offset: u8, data: u32) {
        // SAFETY: the transport writes what its device's specification asks for.
        unsafe { self.write(place(device_function), register_offset.into(), data) };
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        *self
    }
}
