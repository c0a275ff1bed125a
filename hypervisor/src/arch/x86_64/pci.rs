//! PCI configuration space of segment 0, by the ports. PCI Local Bus 3.0, sections 3.2.2.3.2 and 6.

use spin::mutex::SpinMutex;

use super::ports;
use crate::device::interrupts::Table;
use crate::device::pirq::Function;
use crate::emulate::Width;
use pv_abi::errno::Errno;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;

/// Held from the write of an address to the access to its data.
static LOCK: SpinMutex<()> = SpinMutex::new(());

/// Reads data: `address` goes to the address register, `port` is one of the four of the data.
pub fn read(address: u32, port: u16, width: Width) -> u32 {
    let _lock = LOCK.lock();
    ports::write(ADDRESS, Width::Dword, address);
    ports::read(port, width)
}

/// Writes data, as [`read`] reads it.
pub fn write(address: u32, port: u16, width: Width, value: u32) {
    let _lock = LOCK.lock();
    ports::write(ADDRESS, Width::Dword, address);
    ports::write(port, width, value);
}

/// Registers of every function's header.
mod register {
    pub const ID: u8 = 0x00;
    /// Command below, status above.
    pub const STATUS: u8 = 0x04;
    /// Latency, header type and such.
    pub const HEADER: u8 = 0x0c;
    pub const FIRST_BAR: u8 = 0x10;
    /// Of a bridge: the bus behind it, in bits 8 to 15.
    pub const BUSES: u8 = 0x18;
    pub const CAPABILITIES: u8 = 0x34;
}

/// Status: there is a list of capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
/// Base address register: of ports; with 64 bits.
const BAR_PORTS: u32 = 1 << 0;
const BAR_64: u32 = 0b100;
const BAR_FLAGS: u64 = 0xf;

/// Command: may read and write memory by itself.
const BUS_MASTER: u32 = 1 << 2;

/// Capability IDs.
pub(super) const MSI: u8 = 0x05;
pub(super) const MSIX: u8 = 0x11;

/// More capabilities than a function has room for: an end for a loop over a broken list.
const MAX_CAPABILITIES: usize = 48;

/// A function's configuration space.
#[derive(Clone, Copy)]
pub(super) struct Config(u32);

impl Config {
    /// That of a function that is there.
    pub fn of(function: Function) -> Result<Config, Errno> {
        if function.segment != 0 {
            return Err(Errno::ENODEV);
        }
        let config = Config(ENABLED | u32::from(function.bus) << 16 | u32::from(function.devfn) << 8);
        if config.read(register::ID) & 0xffff == 0xffff { Err(Errno::ENODEV) } else { Ok(config) }
    }

    /// Reads the 32 bits at a multiple of 4.
    pub fn read(self, register: u8) -> u32 {
        read(self.0 | u32::from(register & !3), DATA, Width::Dword)
    }

    /// Writes them.
    pub fn write(self, register: u8, value: u32) {
        write(self.0 | u32::from(register & !3), DATA, Width::Dword, value);
    }

    /// The first register of a capability.
    pub fn capability(self, id: u8) -> Option<u8> {
        if self.read(register::STATUS) & HAS_CAPABILITIES == 0 {
            return None;
        }
        let [mut at, ..] = self.read(register::CAPABILITIES).to_le_bytes();
        for _ in 0..MAX_CAPABILITIES {
            at &= !3;
            // The header comes before.
            if at < 0x40 {
                return None;
            }
            let [found, next, ..] = self.read(at).to_le_bytes();
            if found == id {
                return Some(at);
            }
            at = next;
        }
        None
    }

    /// The machine address in a base address register; `None` if it is one of ports, or none at all.
    fn base_address(self, index: u8) -> Option<u64> {
        let [_, _, kind, _] = self.read(register::HEADER).to_le_bytes();
        // Bridges have two registers, and other headers none that count.
        let registers = match kind & 0x7f {
            0 => 6,
            1 => 2,
            _ => 0,
        };
        let at = register::FIRST_BAR + 4 * index;
        let low = if index < registers { self.read(at) } else { return None };
        if low & BAR_PORTS != 0 {
            return None;
        }
        let is_64 = low & 0b110 == BAR_64;
        let high = if !is_64 {
            0
        } else if index + 1 < registers {
            self.read(at + 4)
        } else {
            return None;
        };
        Some((u64::from(high) << 32 | u64::from(low)) & !BAR_FLAGS)
    }
}

/// Where a function's MSI-X table is, if it has one.
pub(super) fn table(function: Function) -> Result<Option<Table>, Errno> {
    let config = Config::of(function)?;
    let Some(at) = config.capability(MSIX) else { return Ok(None) };
    let entries = u16::try_from(config.read(at) >> 16 & 0x7ff).unwrap_or(0) + 1;
    let place = config.read(at + 4);
    let [index, ..] = (place & 7).to_le_bytes();
    let base = config.base_address(index).filter(|&base| base != 0).ok_or(Errno::EINVAL)?;
    let address = base.checked_add((place & !7).into()).filter(|&address| address >> 52 == 0).ok_or(Errno::EINVAL)?;
    Ok(Some(Table { base, address, entries }))
}

/// Keeps all functions of all buses from memory: those on bus 0, and behind the bridges that are found.
pub(super) fn stop_all() {
    let (mut found, mut next) = ([false; 256], Some(0));
    found[0] = true;
    let mut seen = [false; 256];
    while let Some(bus) = next {
        seen[usize::from(bus)] = true;
        for devfn in 0..=u8::MAX {
            if let Some(behind) = stop(Function { segment: 0, bus, devfn }) {
                found[usize::from(behind)] = true;
            }
        }
        next = (0..=u8::MAX).find(|&bus| found[usize::from(bus)] && !seen[usize::from(bus)]);
    }
}

/// Keeps a function from memory. The bus behind it, if it is a bridge.
fn stop(function: Function) -> Option<u8> {
    let config = Config::of(function).ok()?;
    // The status is cleared where ones are written.
    let command = config.read(register::STATUS) & 0xffff;
    if command & BUS_MASTER != 0 {
        config.write(register::STATUS, command & !BUS_MASTER);
    }
    let [_, _, kind, _] = config.read(register::HEADER).to_le_bytes();
    let [_, behind, ..] = config.read(register::BUSES).to_le_bytes();
    (kind & 0x7f == 1).then_some(behind)
}
