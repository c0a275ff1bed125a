//! Switching the machine off.

use acpi::AcpiTables;
use acpi::address::{AddressSpace, GenericAddress, RawGenericAddress};
use acpi::sdt::SdtHeader;
use acpi::sdt::fadt::Fadt;
use spin::Once;
use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};
use x86_64::instructions::{hlt, interrupts};

use super::handler::LoaderMap;
use crate::addr::MachineAddr;
use crate::arch::console;
use crate::arch::mm::direct_map;
use crate::machine::{SleepType, find_s5};

/// Where and how to ask for power off; where a reset is asked for, which is left to nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PowerFacts {
    /// Port of the PM1a control register.
    pub pm1a_control: Option<u16>,
    /// Port of the PM1b control register, on machines that have two.
    pub pm1b_control: Option<u16>,
    /// What to write there to power off.
    pub s5: Option<SleepType>,
    /// Port and value that hand power management from the firmware's SMM code to us.
    pub acpi_enable: Option<(u16, u8)>,
    /// The port that resets the machine.
    pub reset: Option<u16>,
}

/// PM1 control register: power management is ours; go to the sleep state; where its type goes. ACPI 6.4, table 4.14.
const SCI_ENABLED: u16 = 1 << 0;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;

/// The reset register is a field of tables at least this long (ACPI 2.0).
const LENGTH_WITH_RESET: u32 = 129;

/// How often a condition that ought to come true is looked at; a look takes a microsecond on a real machine.
const PATIENCE: u32 = 1_000_000;
/// A port of the PC that nothing reads from; an access takes about a microsecond.
const DELAY_PORT: u16 = 0x80;

static POWER: Once<PowerFacts> = Once::new();

/// Remembers how to power off. Until then [`power_off`] knows no way.
pub(in super::super) fn init(facts: PowerFacts) {
    POWER.call_once(|| facts);
}

fn io_port(address: GenericAddress) -> Option<u16> {
    let is_port = address.address_space == AddressSpace::SystemIo && address.address != 0;
    u16::try_from(address.address).ok().filter(|_| is_port)
}

/// What the FADT and the DSDT say.
pub(super) fn read(fadt: &Fadt, tables: &AcpiTables<LoaderMap>, limit: MachineAddr) -> PowerFacts {
    let (flags, length, raw_reset): (_, u32, RawGenericAddress) = (fadt.flags, fadt.header.length, fadt.reset_reg);
    let has_reset = length >= LENGTH_WITH_RESET && flags.supports_system_reset_via_fadt();
    let reset = GenericAddress::from_raw(raw_reset).ok().filter(|_| has_reset).and_then(io_port);
    let command_port = u16::try_from(fadt.smi_cmd_port).ok().filter(|&port| port != 0);
    PowerFacts {
        pm1a_control: fadt.pm1a_control_block().ok().and_then(io_port),
        pm1b_control: fadt.pm1b_control_block().ok().flatten().and_then(io_port),
        s5: read_s5(tables, limit),
        acpi_enable: command_port.filter(|_| fadt.acpi_enable != 0).map(|port| (port, fadt.acpi_enable)),
        reset,
    }
}

fn read_s5(tables: &AcpiTables<LoaderMap>, limit: MachineAddr) -> Option<SleepType> {
    let dsdt = tables.dsdt().ok()?;
    let start = MachineAddr(dsdt.phys_address as u64 + size_of::<SdtHeader>() as u64);
    let length = (dsdt.length as usize).checked_sub(size_of::<SdtHeader>())?;
    start.0.checked_add(length as u64).filter(|&end| end <= limit.0)?;
    // SAFETY: the bytes are within the boot loader's map of all memory; they are firmware data that nobody writes.
    find_s5(unsafe { core::slice::from_raw_parts(direct_map(start), length) })
}

fn out8(port: u16, value: u8) {
    // SAFETY: called on the machine's way down only, with ports that the firmware or the PC platform defines to end it.
    unsafe { PortWriteOnly::new(port).write(value) };
}

fn out16(port: u16, value: u16) {
    // SAFETY: as in `out8`.
    unsafe { PortWriteOnly::new(port).write(value) };
}

fn in16(port: u16) -> u16 {
    // SAFETY: reads a power-management register, which has no effect.
    unsafe { PortReadOnly::new(port).read() }
}

fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
        out8(DELAY_PORT, 0);
    }
}

/// Switches the machine off. Where that is not possible, says so and halts this CPU.
pub fn power_off() -> ! {
    interrupts::disable();
    console::flush();
    if let Some(PowerFacts { pm1a_control: Some(a), pm1b_control: b, s5: Some(s5), acpi_enable, .. }) = POWER.get() {
        if let Some((port, value)) = *acpi_enable
            && in16(*a) & SCI_ENABLED == 0
        {
            out8(port, value);
            wait_until(|| in16(*a) & SCI_ENABLED != 0);
        }
        let control = |sleep_type: u8| u16::from(sleep_type) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE;
        out16(*a, control(s5.a));
        if let Some(b) = *b {
            out16(b, control(s5.b));
        }
        // The chipset takes its time.
        wait_until(|| false);
    }
    log::error!("the machine doesn't switch itself off; it is safe to do so by hand");
    halt()
}

fn halt() -> ! {
    loop {
        hlt();
    }
}
