//! Interrupt controllers: local APICs (interrupts between CPUs, the timer), I/O APICs (devices), and the silencing of
//! the PC's old one.

mod io;
mod local;
mod pic;
mod timer;

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use super::acpi::{AcpiFacts, MAX_CPUS};
use super::mm::MapError;
use crate::addr::CpuId;

pub use io::{Line, Polarity, Trigger};
pub use timer::set_timer;

/// The number that the interrupt controllers know a CPU by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ApicId(pub u32);

impl fmt::Display for ApicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The APIC ids of the CPUs that run, by [`CpuId`]; [`NOBODY`] for the others.
static IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NOBODY) }; MAX_CPUS];
const NOBODY: u32 = u32::MAX;

/// Why an interrupt could not be routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteError {
    /// No I/O APIC has this global system interrupt.
    NoSuchInterrupt(u32),
    /// An I/O APIC can name CPUs up to 254 only.
    CpuOutOfReach(ApicId),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteError::NoSuchInterrupt(gsi) => write!(f, "no I/O APIC has interrupt {gsi}"),
            RouteError::CpuOutOfReach(id) => write!(f, "an I/O APIC can't reach the CPU with APIC id {id}"),
        }
    }
}

/// Sets up the machine's controllers, and this CPU's: called once, on the boot CPU, after its IDT is loaded.
///
/// All device interrupts are masked until they are routed.
pub(super) fn init(facts: &AcpiFacts) -> Result<(), MapError> {
    pic::disable();
    local::init(facts.local_apic)?;
    init_this_cpu(CpuId(0));
    timer::calibrate();
    io::init(&facts.io_apics, &facts.overrides)
}

/// Sets up the local APIC of this CPU, which is `cpu`. Called on each further CPU, after its IDT is loaded.
pub fn init_this_cpu(cpu: CpuId) {
    local::get().enable();
    timer::init_this_cpu();
    if let Some(slot) = IDS.get(cpu.0 as usize) {
        slot.store(id().0, Ordering::Release);
    }
}

/// The APIC id of a CPU, once its APIC is set up.
pub fn id_of(cpu: CpuId) -> Option<ApicId> {
    let id = IDS.get(cpu.0 as usize)?.load(Ordering::Acquire);
    (id != NOBODY).then_some(ApicId(id))
}

/// This CPU's APIC id.
pub fn id() -> ApicId {
    local::get().id()
}

/// Ends the interrupt that this CPU is handling; the next may come. Not for spurious interrupts.
#[inline]
pub fn end_of_interrupt() {
    local::get().end_of_interrupt();
}

/// Raises `vector` on another CPU (or this one). Nothing happens if it doesn't run.
#[inline]
pub fn send(cpu: CpuId, vector: u8) {
    if let Some(id) = id_of(cpu) {
        local::get().send(id, local::Command::Fixed(vector));
    }
}

/// Raises an NMI on all CPUs but this one. Does nothing before [`init`], when no other CPU runs.
pub fn nmi_all_others() {
    if let Some(apic) = local::try_get() {
        apic.send_all_others(local::Command::Nmi);
    }
}

/// The first half of starting a CPU: reset it into waiting for [`send_startup`].
pub(super) fn send_init(to: ApicId) {
    local::get().send(to, local::Command::Init);
}

/// The second half: let it run the real-mode code in the given page below 1 MiB.
pub(super) fn send_startup(to: ApicId, page: u8) {
    local::get().send(to, local::Command::Startup(page));
}

/// What this CPU's APIC found wrong since it was last asked: the bits of its error status register.
pub fn take_error() -> u32 {
    local::get().take_error()
}

/// Lets global system interrupt `gsi` raise `vector` on `to`.
pub fn route(gsi: u32, line: Line, vector: u8, to: ApicId) -> Result<(), RouteError> {
    io::route(gsi, line, vector, to, false)
}

/// [`route`], with the interrupt masked yet.
pub fn route_masked(gsi: u32, line: Line, vector: u8, to: ApicId) -> Result<(), RouteError> {
    io::route(gsi, line, vector, to, true)
}

/// Lets ISA interrupt `irq` raise `vector` on `to`, wherever and however the machine delivers it.
pub fn route_isa(irq: u8, vector: u8, to: ApicId) -> Result<(), RouteError> {
    let (gsi, line) = io::take_isa_line(irq);
    route(gsi, line, vector, to)
}

/// Does the hypervisor use this global system interrupt itself?
pub fn is_own(gsi: u32) -> bool {
    io::is_own(gsi)
}

/// Global system interrupts have numbers below this.
pub fn lines() -> u32 {
    io::lines()
}

/// How a device drives its line: as ACPI says, else as was [told](tell_line), else as is usual for ISA or PCI.
pub fn line(gsi: u32) -> Line {
    io::line(gsi)
}

/// Says how a line is driven of which ACPI says nothing, for when it is routed next.
pub fn tell_line(gsi: u32, line: Line) -> Result<(), RouteError> {
    io::tell(gsi, line)
}

/// Keeps a global system interrupt from arriving.
pub fn mask(gsi: u32) -> Result<(), RouteError> {
    io::set_masked(gsi, true)
}

/// Lets a routed global system interrupt arrive again.
pub fn unmask(gsi: u32) -> Result<(), RouteError> {
    io::set_masked(gsi, false)
}
