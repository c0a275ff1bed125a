//! Device interrupts: pins of I/O APICs, and messages of PCI functions. All go to the boot CPU.
//!
//! A message is a write to a local APIC's address: SDM volume 3, 11.11. The capabilities: PCI Local Bus 3.0, 6.8.1 (MSI)
//! and 6.8.2 (MSI-X).

use core::ops::Range;

use arrayvec::ArrayVec;
use pv_abi::errno::Errno;
use spin::mutex::SpinMutex;

use super::apic::{self, Line, Polarity, RouteError, Trigger};
use super::mm::device;
use super::pci::{self, Config};
use super::vectors;
use crate::addr::{CpuId, MachineAddr};
use crate::device::interrupts::{Machine, Table};
use crate::device::pirq::{Function, Nature, Source};

/// The CPU that all device interrupts go to.
const TARGET: CpuId = CpuId(0);

/// Where messages go: fixed delivery to the local APIC whose ID is in bits 12 to 19.
const MESSAGE_ADDRESS: u32 = 0xfee0_0000;

/// MSI message control, in the upper half of the first register: on; how many messages are on; 64-bit addresses; mask bits.
const MSI_ENABLED: u32 = 1 << 16;
const MSI_COUNT: u32 = 0b111 << 20;
const MSI_64: u32 = 1 << 23;
const MSI_MASKS: u32 = 1 << 24;

/// MSI-X message control, likewise: all masked; on.
const MSIX_ALL_MASKED: u32 = 1 << 30;
const MSIX_ENABLED: u32 = 1 << 31;

/// Words of an entry of an MSI-X table: address, data, control, whose bit 0 masks.
const WORDS: usize = 4;
const ENTRY_MASKED: u32 = 1;

/// Tables that can be reached; each is kept for good, since its pages are.
const MAX_TABLES: usize = 64;

/// The machine's device interrupts.
pub struct DeviceInterrupts;

/// An MSI-X table in the hypervisor's address space.
struct MappedTable {
    function: Function,
    address: u64,
    entries: u16,
    words: *mut u32,
    /// Entries that have a vector.
    users: u32,
}

// SAFETY: the pointer leads to registers mapped for all CPUs and for good; the lock below serialises their use.
unsafe impl Send for MappedTable {}

static TABLES: SpinMutex<ArrayVec<MappedTable, MAX_TABLES>> = SpinMutex::new(ArrayVec::new_const());

impl MappedTable {
    fn write(&self, entry: u16, word: usize, value: u32) {
        if entry < self.entries {
            // SAFETY: the entry is in the table, all of which is mapped. The frames were looked at before: they are no RAM.
            unsafe { self.words.add(usize::from(entry) * WORDS + word).write_volatile(value) };
        }
    }

    fn set_masked(&self, entry: u16, masked: bool) {
        self.write(entry, 3, if masked { ENTRY_MASKED } else { 0 });
    }
}

/// The table at this place, mapped now if it wasn't.
fn mapped<'a>(
    tables: &'a mut ArrayVec<MappedTable, MAX_TABLES>,
    function: Function,
    table: &Table,
) -> Result<&'a mut MappedTable, Errno> {
    let found = tables.iter().position(|known| {
        known.function == function && known.address == table.address && known.entries == table.entries
    });
    let index = match found {
        Some(index) => index,
        None if tables.is_full() => return Err(Errno::ENOSPC),
        None => {
            let len = usize::from(table.entries) * WORDS * size_of::<u32>();
            let words = device::map(MachineAddr(table.address), len).map_err(|_| Errno::ENOSPC)?.cast();
            tables.push(MappedTable { function, address: table.address, entries: table.entries, words, users: 0 });
            tables.len() - 1
        }
    };
    Ok(&mut tables[index])
}

/// The table that a function's connected entries are in.
fn in_use(tables: &mut ArrayVec<MappedTable, MAX_TABLES>, function: Function) -> Option<&mut MappedTable> {
    tables.iter_mut().find(|table| table.function == function && table.users > 0)
}

/// Address and data of the message that raises `vector`.
fn message(vector: u8) -> Result<(u32, u32), Errno> {
    let id = apic::id_of(TARGET).filter(|id| id.0 < 0xff).ok_or(Errno::ENODEV)?;
    Ok((MESSAGE_ADDRESS | id.0 << 12, vector.into()))
}

/// Registers of the MSI capability at `at`, whose first one is `control`: those of the data and of the mask bits.
fn msi_registers(at: u8, control: u32) -> (u8, Option<u8>) {
    let data = at + if control & MSI_64 != 0 { 12 } else { 8 };
    (data, Some(data + 4).filter(|_| control & MSI_MASKS != 0))
}

fn connect_pin(gsi: u32, vector: u8) -> Result<Nature, Errno> {
    if apic::is_own(gsi) {
        return Err(Errno::EBUSY);
    }
    let (line, to) = (apic::line(gsi), apic::id_of(TARGET).ok_or(Errno::ENODEV)?);
    apic::route_masked(gsi, line, vector, to).map_err(refused)?;
    Ok(Nature { level: line.trigger == Trigger::Level, remembers: false })
}

fn connect_msi(function: Function, vector: u8) -> Result<Nature, Errno> {
    let config = Config::of(function)?;
    let at = config.capability(pci::MSI).ok_or(Errno::ENODEV)?;
    let (address, data) = message(vector)?;
    let control = config.read(at) & !(MSI_ENABLED | MSI_COUNT);
    let (data_at, mask_at) = msi_registers(at, control);
    config.write(at, control);
    config.write(at + 4, address);
    if control & MSI_64 != 0 {
        config.write(at + 8, 0);
    }
    config.write(data_at, config.read(data_at) & !0xffff | data);
    if let Some(mask_at) = mask_at {
        config.write(mask_at, u32::MAX);
        config.write(at, control | MSI_ENABLED);
    }
    Ok(Nature { level: false, remembers: mask_at.is_some() })
}

/// Masks or unmasks by the mask bit; where there is none, by switching messages off altogether.
fn mask_msi(function: Function, masked: bool) {
    let Some((config, at)) = find(function, pci::MSI) else { return };
    let control = config.read(at);
    match msi_registers(at, control).1 {
        Some(mask_at) => config.write(mask_at, if masked { u32::MAX } else { !1 }),
        None => config.write(at, if masked { control & !MSI_ENABLED } else { control | MSI_ENABLED }),
    }
}

fn connect_msix(function: Function, entry: u16, vector: u8, table: &Table) -> Result<Nature, Errno> {
    if entry >= table.entries {
        return Err(Errno::EINVAL);
    }
    let (config, at) = find(function, pci::MSIX).ok_or(Errno::ENODEV)?;
    let (address, data) = message(vector)?;
    let mut tables = TABLES.lock();
    // A table that moves takes its connected entries along, where nobody would find them to mask them.
    if in_use(&mut tables, function).is_some_and(|used| used.address != table.address) {
        return Err(Errno::EBUSY);
    }
    let table = mapped(&mut tables, function, table)?;
    table.set_masked(entry, true);
    for (word, value) in [address, 0, data].into_iter().enumerate() {
        table.write(entry, word, value);
    }
    table.users += 1;
    config.write(at, (config.read(at) | MSIX_ENABLED) & !MSIX_ALL_MASKED);
    Ok(Nature { level: false, remembers: true })
}

/// Takes one entry off a function's table; the last one switches its messages off.
fn disconnect_msix(function: Function) {
    let mut tables = TABLES.lock();
    let Some(table) = in_use(&mut tables, function) else { return };
    table.users -= 1;
    if table.users == 0
        && let Some((config, at)) = find(function, pci::MSIX)
    {
        config.write(at, config.read(at) & !MSIX_ENABLED);
    }
}

/// A capability of a function that is there.
fn find(function: Function, capability: u8) -> Option<(Config, u8)> {
    let config = Config::of(function).ok()?;
    Some((config, config.capability(capability)?))
}

fn refused(error: RouteError) -> Errno {
    match error {
        RouteError::NoSuchInterrupt(_) => Errno::EINVAL,
        RouteError::CpuOutOfReach(_) => Errno::ENODEV,
    }
}

impl Machine for DeviceInterrupts {
    fn vectors(&self) -> &'static [Range<u8>] {
        &vectors::DEVICES
    }

    fn lines(&self) -> u32 {
        apic::lines()
    }

    fn set_line(&self, gsi: u32, level: bool, active_low: bool) -> Result<(), Errno> {
        let line = Line {
            trigger: if level { Trigger::Level } else { Trigger::Edge },
            polarity: if active_low { Polarity::Low } else { Polarity::High },
        };
        apic::tell_line(gsi, line).map_err(refused)
    }

    fn connect(&self, source: Source, vector: u8, table: Option<&Table>) -> Result<Nature, Errno> {
        match source {
            Source::Pin { gsi } => connect_pin(gsi, vector),
            Source::Msi { function } => connect_msi(function, vector),
            Source::Msix { function, entry } => connect_msix(function, entry, vector, table.ok_or(Errno::ENODEV)?),
        }
    }

    fn set_masked(&self, source: Source, masked: bool) {
        match source {
            Source::Pin { gsi } => {
                // A line that was routed exists.
                let _ = if masked { apic::mask(gsi) } else { apic::unmask(gsi) };
            }
            Source::Msi { function } => mask_msi(function, masked),
            Source::Msix { function, entry } => {
                if let Some(table) = in_use(&mut TABLES.lock(), function) {
                    table.set_masked(entry, masked);
                }
            }
        }
    }

    fn disconnect(&self, source: Source) {
        match source {
            // A masked pin does nothing.
            Source::Pin { .. } => {}
            Source::Msi { function } => {
                if let Some((config, at)) = find(function, pci::MSI) {
                    config.write(at, config.read(at) & !MSI_ENABLED);
                }
            }
            Source::Msix { function, .. } => disconnect_msix(function),
        }
    }

    fn table(&self, function: Function) -> Result<Option<Table>, Errno> {
        pci::table(function)
    }

    fn stop_all(&self) {
        pci::stop_all();
    }
}
