//! How the `acpi` crate reaches memory: through the boot loader's map.

use core::ptr::NonNull;

use acpi::{Handler, PciAddress, PhysicalMapping};

use crate::addr::MachineAddr;
use crate::arch::mm::direct_map;

/// The boot loader's map of machine addresses `0..limit`, at the direct map's place.
#[derive(Clone)]
pub(super) struct LoaderMap {
    pub limit: MachineAddr,
}

/// All but the first two methods serve AML code and registers behind generic addresses, which we don't use.
macro_rules! unused {
    ($($name:ident($($type:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $(_: $type),*) $(-> $result)? {
            unreachable!(concat!("acpi: ", stringify!($name), " is only for AML"))
        })*
    };
}

impl Handler for LoaderMap {
    /// # Panics
    /// When a table lies outside the map: the firmware's pointers are garbage.
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let start = MachineAddr(physical_address as u64);
        let end = start.0.checked_add(size as u64).filter(|&end| end <= self.limit.0);
        assert!(end.is_some(), "acpi: a table of {size} bytes at {start} is outside memory");
        PhysicalMapping {
            physical_start: physical_address,
            virtual_start: NonNull::new(direct_map(start).cast()).expect("the direct map is not at address 0"),
            region_length: size,
            mapped_length: size,
            handler: self.clone(),
        }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}

    unused! {
        read_u8(usize) -> u8;
        read_u16(usize) -> u16;
        read_u32(usize) -> u32;
        read_u64(usize) -> u64;
        write_u8(usize, u8);
        write_u16(usize, u16);
        write_u32(usize, u32);
        write_u64(usize, u64);
        read_io_u8(u16) -> u8;
        read_io_u16(u16) -> u16;
        read_io_u32(u16) -> u32;
        write_io_u8(u16, u8);
        write_io_u16(u16, u16);
        write_io_u32(u16, u32);
        read_pci_u8(PciAddress, u16) -> u8;
        read_pci_u16(PciAddress, u16) -> u16;
        read_pci_u32(PciAddress, u16) -> u32;
        write_pci_u8(PciAddress, u16, u8);
        write_pci_u16(PciAddress, u16, u16);
        write_pci_u32(PciAddress, u16, u32);
        nanos_since_boot() -> u64;
        stall(u64);
        sleep(u64);
    }
}
