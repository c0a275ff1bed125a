//! What ACPI says about the machine: CPUs, interrupt controllers, timers, how to switch it off.
//!
//! The tables are read once, in [`crate::arch::boot::early`], through the boot loader's map of all memory, and copied
//! into [`AcpiFacts`]; nothing refers to them afterwards. No AML is run.

mod handler;
mod power;

use acpi::address::AddressSpace;
use acpi::sdt::Signature;
use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry};
use acpi::{AcpiError, AcpiTables, HpetInfo};
use arrayvec::ArrayVec;

use self::handler::LoaderMap;
use crate::addr::MachineAddr;
use crate::arch::mm::to_usize;

pub(super) use power::init as init_power;
pub use power::{PowerFacts, power_off};

/// Most CPUs used; more are left alone.
pub const MAX_CPUS: usize = 64;
/// Where the local APIC is unless the firmware says otherwise; SDM volume 3, 11.4.1.
const DEFAULT_LOCAL_APIC: MachineAddr = MachineAddr(0xfee0_0000);
/// More entries than any real table has: an end for a loop over a broken one.
const MAX_MADT_ENTRIES: usize = 4096;
/// LocalApicEntry::flags, LocalX2ApicEntry::flags: the CPU can be started. ACPI 6.4, table 5.22.
const ENABLED: u32 = 1 << 0;

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApicEntry {
    /// Its registers.
    pub address: MachineAddr,
    /// The global system interrupt of its first pin.
    pub gsi_base: u32,
}

/// An ISA interrupt that does not come in where, or as, it does on a plain PC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// The ISA interrupt number.
    pub irq: u8,
    /// The global system interrupt it comes in as.
    pub gsi: u32,
    /// Is it active low (else high)?
    pub active_low: bool,
    /// Is it level-triggered (else edge)?
    pub level: bool,
}

/// The power-management timer, 3.579545 MHz.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// Its I/O port, 32 bits wide.
    pub port: u16,
    /// Has the counter 32 bits (else 24)?
    pub wide: bool,
}

/// What the tables say.
#[derive(Clone, Debug)]
pub struct AcpiFacts {
    /// APIC ids of the CPUs that can be started, in the tables' order.
    pub cpus: ArrayVec<u32, MAX_CPUS>,
    /// CPUs beyond [`MAX_CPUS`].
    pub cpus_left_out: usize,
    /// The local APICs' registers (in xAPIC mode).
    pub local_apic: MachineAddr,
    /// I/O APICs.
    pub io_apics: ArrayVec<IoApicEntry, 16>,
    /// Exceptions to "ISA interrupt n is global system interrupt n, edge-triggered, active high".
    pub overrides: ArrayVec<Override, 16>,
    /// Registers of the high-precision event timer.
    pub hpet: Option<MachineAddr>,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// CMOS register of the century, where there is one.
    pub century_register: Option<u8>,
    /// How to switch off and reset.
    pub power: PowerFacts,
}

impl AcpiFacts {
    /// What is assumed of a machine without tables: one CPU, no I/O APIC.
    fn none() -> AcpiFacts {
        AcpiFacts {
            cpus: ArrayVec::new(),
            cpus_left_out: 0,
            local_apic: DEFAULT_LOCAL_APIC,
            io_apics: ArrayVec::new(),
            overrides: ArrayVec::new(),
            hpet: None,
            pm_timer: None,
            century_register: None,
            power: PowerFacts::default(),
        }
    }
}

/// Reads the tables. `rsdp` is where the boot loader found their root, `limit` the end of its map of all memory.
///
/// What is missing or broken is logged and left out; the machine then runs with less.
///
/// # Safety
/// The boot loader's page tables are loaded, mapping machine addresses `0..limit` in the direct map's range.
pub unsafe fn read(rsdp: Option<MachineAddr>, limit: MachineAddr) -> AcpiFacts {
    let mut facts = AcpiFacts::none();
    let Some(rsdp) = rsdp else {
        log::warn!("acpi: no tables; running with one CPU");
        return facts;
    };
    let map = LoaderMap { limit };
    // SAFETY: the caller promises the map; the boot loader found a root pointer there.
    let tables = match unsafe { AcpiTables::from_rsdp(map, to_usize(rsdp.0)) } {
        Ok(tables) => tables,
        Err(error) => {
            log::warn!("acpi: no tables: {error:?}; running with one CPU");
            return facts;
        }
    };
    for (name, result) in [
        ("MADT", read_madt(&tables, &mut facts)),
        ("FADT", read_fadt(&tables, limit, &mut facts)),
        ("HPET", read_hpet(&tables, &mut facts)),
    ] {
        match result {
            Ok(()) => {}
            Err(AcpiError::TableNotFound(_)) => log::debug!("acpi: no {name}"),
            Err(error) => log::warn!("acpi: {name}: {error:?}"),
        }
    }
    facts
}

fn read_madt(tables: &AcpiTables<LoaderMap>, facts: &mut AcpiFacts) -> Result<(), AcpiError> {
    let madt = tables.find_table::<Madt>().ok_or(AcpiError::TableNotFound(Signature::MADT))?;
    facts.local_apic = MachineAddr(madt.get().local_apic_address.into());
    for entry in madt.get().entries().take(MAX_MADT_ENTRIES) {
        match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => add_cpu(facts, cpu.apic_id.into()),
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => add_cpu(facts, cpu.x2apic_id),
            MadtEntry::LocalApicAddressOverride(entry) => facts.local_apic = MachineAddr(entry.local_apic_address),
            MadtEntry::IoApic(entry) => {
                let address = MachineAddr(entry.io_apic_address.into());
                let io_apic = IoApicEntry { address, gsi_base: entry.global_system_interrupt_base };
                if facts.io_apics.try_push(io_apic).is_err() {
                    log::warn!("acpi: too many I/O APICs: the one at {address} is left alone");
                }
            }
            MadtEntry::InterruptSourceOverride(entry) => {
                // Polarity in bits 0..2, trigger mode in bits 2..4; 3 in either is low and level. ISA's own are high
                // and edge. ACPI 6.4, table 5.26.
                let flags = entry.flags;
                let change = Override {
                    irq: entry.irq,
                    gsi: entry.global_system_interrupt,
                    active_low: flags & 0b11 == 0b11,
                    level: flags >> 2 & 0b11 == 0b11,
                };
                if facts.overrides.try_push(change).is_err() {
                    log::warn!("acpi: too many interrupt overrides: {change:?} is left out");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Firmware may list a CPU twice, as xAPIC and as x2APIC.
fn add_cpu(facts: &mut AcpiFacts, apic_id: u32) {
    if !facts.cpus.contains(&apic_id) && facts.cpus.try_push(apic_id).is_err() {
        facts.cpus_left_out += 1;
    }
}

fn read_fadt(tables: &AcpiTables<LoaderMap>, limit: MachineAddr, facts: &mut AcpiFacts) -> Result<(), AcpiError> {
    let fadt = tables.find_table::<Fadt>().ok_or(AcpiError::TableNotFound(Signature::FADT))?;
    fadt.validate()?;
    let flags = fadt.flags;
    if let Ok(Some(timer)) = fadt.pm_timer_block()
        && timer.address_space == AddressSpace::SystemIo
        && let Ok(port) = u16::try_from(timer.address)
    {
        facts.pm_timer = Some(PmTimer { port, wide: flags.pm_timer_is_32_bit() });
    }
    facts.century_register = Some(fadt.century).filter(|&register| register != 0);
    facts.power = power::read(&fadt, tables, limit);
    Ok(())
}

fn read_hpet(tables: &AcpiTables<LoaderMap>, facts: &mut AcpiFacts) -> Result<(), AcpiError> {
    let hpet = HpetInfo::new(tables)?;
    facts.hpet = Some(MachineAddr(hpet.base_address as u64)).filter(|address| address.0 != 0);
    Ok(())
}
