//! I/O APICs: how device interrupts reach local APICs. Intel 82093AA data sheet, section 3.

use arrayvec::ArrayVec;
use spin::mutex::SpinMutex;

use super::{ApicId, RouteError};
use crate::arch::acpi::{IoApicEntry, Override};
use crate::arch::mm::{MapError, device};

/// The two registers in memory, in words.
const INDEX: usize = 0;
const WINDOW: usize = 4;

const VERSION: u32 = 0x01;
/// Two registers per pin from here on.
const REDIRECTION: u32 = 0x10;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const DESTINATION_SHIFT: u32 = 24;

/// When a line asks for an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// When it changes to active.
    Edge,
    /// For as long as it is active.
    Level,
}

/// Which voltage is active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// The high one.
    High,
    /// The low one.
    Low,
}

/// How a device drives its interrupt line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// When it asks.
    pub trigger: Trigger,
    /// With which voltage.
    pub polarity: Polarity,
}

impl Line {
    /// ISA devices: edge-triggered, active high.
    pub const ISA: Line = Line { trigger: Trigger::Edge, polarity: Polarity::High };
    /// PCI devices' pins: level-triggered, active low.
    pub const PCI: Line = Line { trigger: Trigger::Level, polarity: Polarity::Low };

    fn bits(self) -> u32 {
        let level = if self.trigger == Trigger::Level { LEVEL } else { 0 };
        let low = if self.polarity == Polarity::Low { ACTIVE_LOW } else { 0 };
        level | low
    }
}

struct IoApic {
    base: *mut u32,
    gsi_base: u32,
    pins: u32,
}

// SAFETY: the pointer leads to registers mapped for all CPUs and for good; the lock below serialises their use.
unsafe impl Send for IoApic {}

struct IoApics {
    list: ArrayVec<IoApic, 16>,
    overrides: ArrayVec<Override, 16>,
    /// What the domain with the hardware said of lines that have no override.
    told: ArrayVec<(u32, Line), 64>,
    /// Lines that the hypervisor uses itself.
    own: ArrayVec<u32, 4>,
}

static IO_APICS: SpinMutex<IoApics> = SpinMutex::new(IoApics {
    list: ArrayVec::new_const(),
    overrides: ArrayVec::new_const(),
    told: ArrayVec::new_const(),
    own: ArrayVec::new_const(),
});

/// Maps the I/O APICs and masks all their pins.
pub(super) fn init(entries: &[IoApicEntry], overrides: &[Override]) -> Result<(), MapError> {
    let mut io_apics = IO_APICS.lock();
    io_apics.overrides.extend(overrides.iter().copied());
    for entry in entries {
        let base = device::map(entry.address, 4096)?.cast();
        let mut io_apic = IoApic { base, gsi_base: entry.gsi_base, pins: 0 };
        io_apic.pins = (io_apic.read(VERSION) >> 16 & 0xff) + 1;
        for pin in 0..io_apic.pins {
            io_apic.write(REDIRECTION + 2 * pin, MASKED);
        }
        let last = entry.gsi_base + io_apic.pins - 1;
        log::debug!("apic: I/O APIC at {}: interrupts {}..={last}", entry.address, entry.gsi_base);
        let _ = io_apics.list.try_push(io_apic);
    }
    Ok(())
}

impl IoApic {
    fn read(&mut self, register: u32) -> u32 {
        // SAFETY: two 32-bit registers in the page mapped by `init`; the exclusive reference keeps index and data
        // access together.
        unsafe {
            self.base.add(INDEX).write_volatile(register);
            self.base.add(WINDOW).read_volatile()
        }
    }

    fn write(&mut self, register: u32, value: u32) {
        // SAFETY: as in `read`; what is written is up to the functions of this module.
        unsafe {
            self.base.add(INDEX).write_volatile(register);
            self.base.add(WINDOW).write_volatile(value);
        }
    }
}

impl IoApics {
    /// The I/O APIC of an interrupt, and the register of its pin.
    fn find(&mut self, gsi: u32) -> Result<(&mut IoApic, u32), RouteError> {
        let found = self.list.iter_mut().find_map(|io_apic| {
            let pin = gsi.checked_sub(io_apic.gsi_base).filter(|&pin| pin < io_apic.pins)?;
            Some((io_apic, REDIRECTION + 2 * pin))
        });
        found.ok_or(RouteError::NoSuchInterrupt(gsi))
    }
}

/// Interrupts of ISA devices, where no override says otherwise.
const ISA_LINES: u32 = 16;

impl Override {
    fn line(&self) -> Line {
        let trigger = if self.level { Trigger::Level } else { Trigger::Edge };
        let polarity = if self.active_low { Polarity::Low } else { Polarity::High };
        Line { trigger, polarity }
    }
}

pub(super) fn route(gsi: u32, line: Line, vector: u8, to: ApicId, masked: bool) -> Result<(), RouteError> {
    if to.0 >= 0xff {
        return Err(RouteError::CpuOutOfReach(to));
    }
    let mut io_apics = IO_APICS.lock();
    let (io_apic, register) = io_apics.find(gsi)?;
    // Masked first, so that no interrupt goes to half an address.
    io_apic.write(register, MASKED);
    io_apic.write(register + 1, to.0 << DESTINATION_SHIFT);
    io_apic.write(register, line.bits() | u32::from(vector) | if masked { MASKED } else { 0 });
    Ok(())
}

pub(super) fn set_masked(gsi: u32, masked: bool) -> Result<(), RouteError> {
    let mut io_apics = IO_APICS.lock();
    let (io_apic, register) = io_apics.find(gsi)?;
    let entry = io_apic.read(register) & !MASKED;
    io_apic.write(register, entry | if masked { MASKED } else { 0 });
    Ok(())
}

/// Where an ISA interrupt comes in, and how. It is the hypervisor's from now on.
pub(super) fn take_isa_line(irq: u8) -> (u32, Line) {
    let mut io_apics = IO_APICS.lock();
    let found = io_apics.overrides.iter().find(|change| change.irq == irq).copied();
    let (gsi, line) = found.map_or((irq.into(), Line::ISA), |change| (change.gsi, change.line()));
    let _ = io_apics.own.try_push(gsi);
    (gsi, line)
}

/// Does the hypervisor use this line itself?
pub(super) fn is_own(gsi: u32) -> bool {
    IO_APICS.lock().own.contains(&gsi)
}

/// Lines have numbers below this.
pub(super) fn lines() -> u32 {
    IO_APICS.lock().list.iter().map(|io_apic| io_apic.gsi_base + io_apic.pins).max().unwrap_or(0)
}

/// How a device drives a line: as ACPI says, else as was [told](tell), else as is usual.
pub(super) fn line(gsi: u32) -> Line {
    let io_apics = IO_APICS.lock();
    let by_override = io_apics.overrides.iter().find(|change| change.gsi == gsi).map(Override::line);
    let by_word = io_apics.told.iter().find(|(of, _)| *of == gsi).map(|(_, line)| *line);
    by_override.or(by_word).unwrap_or(if gsi < ISA_LINES { Line::ISA } else { Line::PCI })
}

/// A word about a line, for when it is routed next.
pub(super) fn tell(gsi: u32, line: Line) -> Result<(), RouteError> {
    let mut io_apics = IO_APICS.lock();
    io_apics.find(gsi)?;
    io_apics.told.retain(|(of, _)| *of != gsi);
    io_apics.told.try_push((gsi, line)).map_err(|_| RouteError::NoSuchInterrupt(gsi))
}
