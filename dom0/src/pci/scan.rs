//! Which functions there are: those on bus 0, and behind the bridges that are found. PCI Local Bus 3.0, section 6.1.

use alloc::vec::Vec;

use pci_types::{ConfigRegionAccess, HeaderType, PciAddress, PciHeader, PciPciBridgeHeader};

/// What nobody answers reads as.
const NOBODY: u16 = 0xffff;

/// A function that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Where.
    pub address: PciAddress,
    /// Its maker.
    pub vendor: u16,
    /// What its maker calls it.
    pub device: u16,
    /// Base class and subclass.
    pub class: (u8, u8),
}

impl Function {
    /// Device and function in one number, as the hypervisor names them.
    pub fn devfn(&self) -> u8 {
        self.address.device() << 3 | self.address.function()
    }
}

/// All functions of segment 0, in the order of their addresses on each bus, buses as they are found.
pub fn functions(access: &impl ConfigRegionAccess) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut buses = Vec::from([0]);
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..32 {
            let first = PciHeader::new(PciAddress::new(0, bus, device, 0));
            let several = first.id(access).0 != NOBODY && first.has_multiple_functions(access);
            for number in 0..if several { 8 } else { 1 } {
                let header = PciHeader::new(PciAddress::new(0, bus, device, number));
                let Some(function) = identify(&header, access) else { continue };
                functions.push(function);
                // A bridge that nobody set up says 0; two that say the same would be looked behind twice.
                if let Some(behind) = bus_behind(header, access)
                    && !buses.contains(&behind)
                {
                    buses.push(behind);
                }
            }
        }
    }
    functions
}

fn identify(header: &PciHeader, access: &impl ConfigRegionAccess) -> Option<Function> {
    let (vendor, device) = header.id(access);
    if vendor == NOBODY {
        return None;
    }
    let (_, class, subclass, _) = header.revision_and_class(access);
    Some(Function { address: header.address(), vendor, device, class: (class, subclass) })
}

fn bus_behind(header: PciHeader, access: &impl ConfigRegionAccess) -> Option<u8> {
    if header.header_type(access) != HeaderType::PciPciBridge {
        return None;
    }
    PciPciBridgeHeader::from_header(header, access).map(|bridge| bridge.secondary_bus_number(access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Configuration space by address and register.
    #[derive(Default)]
    struct Fake(HashMap<(PciAddress, u16), u32>);

    impl ConfigRegionAccess for Fake {
        unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
            let there = self.0.contains_key(&(address, 0));
            self.0.get(&(address, offset)).copied().unwrap_or(if there { 0 } else { u32::MAX })
        }

        unsafe fn write(&self, _: PciAddress, _: u16, _: u32) {
            panic!("a scan changes nothing");
        }
    }

    impl Fake {
        fn add(&mut self, place: (u8, u8, u8), id: u32, class: u32, header: u32) -> PciAddress {
            let address = PciAddress::new(0, place.0, place.1, place.2);
            self.0.extend([((address, 0), id), ((address, 8), class << 16), ((address, 12), header << 16)]);
            address
        }

        fn places(&self) -> Vec<(u8, u8, u8)> {
            let place =
                |function: Function| (function.address.bus(), function.address.device(), function.address.function());
            functions(self).into_iter().map(place).collect()
        }
    }

    #[test]
    fn finds_functions_behind_bridges_and_further_ones_of_a_device() {
        let mut fake = Fake::default();
        fake.add((0, 0, 0), 0x1237_8086, 0x0600, 0);
        fake.add((0, 1, 0), 0x7000_8086, 0x0601, 0x80);
        fake.add((0, 1, 3), 0x7113_8086, 0x0680, 0);
        // No first function: the others don't count.
        fake.add((0, 2, 1), 0x1111_1234, 0x0300, 0);
        let bridge = fake.add((0, 3, 0), 0x0001_1b36, 0x0604, 1);
        fake.0.insert((bridge, 0x18), 5 << 8);
        fake.add((5, 31, 0), 0x1042_1af4, 0x0100, 0);
        assert_eq!(fake.places(), [(0, 0, 0), (0, 1, 0), (0, 1, 3), (0, 3, 0), (5, 31, 0)]);
        let last = functions(&fake)[4];
        assert_eq!((last.vendor, last.device, last.class, last.devfn()), (0x1af4, 0x1042, (1, 0), 0xf8));
    }

    #[test]
    fn a_loop_of_bridges_has_an_end() {
        let mut fake = Fake::default();
        for (bus, behind) in [(0, 1), (1, 2), (2, 0), (2, 1)] {
            let bridge = fake.add((bus, behind, 0), 0x0001_1b36, 0x0604, 1);
            fake.0.insert((bridge, 0x18), u32::from(behind) << 8);
        }
        assert_eq!(fake.places(), [(0, 1, 0), (1, 2, 0), (2, 0, 0), (2, 1, 0)]);
    }

    #[test]
    fn nothing_is_found_on_a_machine_without_pci() {
        assert!(functions(&Fake::default()).is_empty());
    }
}
