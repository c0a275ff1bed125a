//! `physdev_op`: I/O privilege, and for the domain that has the hardware, physical interrupts. Header: `physdev.h`.

use super::{Answer, call};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::physdev::*;

/// Any operation on its argument, in which the results land.
///
/// # Safety
/// `T` is the structure that the ABI names for `command`.
pub unsafe fn physdev_op<T>(command: u32, argument: &mut T) -> Answer {
    // SAFETY: the call writes the structure only.
    unsafe { call(number::PHYSDEV_OP, [u64::from(command), (&raw mut *argument) as u64, 0, 0, 0]) }
}

/// Makes an operation whose results are its argument, then.
fn op<T>(command: u32, mut argument: T) -> Result<T, Errno> {
    // SAFETY: the callers below pair command and structure as the header does.
    unsafe { physdev_op(command, &mut argument) }.map(|_| argument)
}

/// Sets the virtual I/O privilege level, 0 to 3 (`set_iopl`).
pub fn set_iopl(iopl: u32) -> Result<(), Errno> {
    op(PHYSDEVOP_SET_IOPL, PhysdevSetIopl { iopl }).map(drop)
}

/// Says how a line is driven of which the hypervisor doesn't know it (`setup_gsi`).
pub fn setup_gsi(gsi: u32, level: bool, active_low: bool) -> Result<(), Errno> {
    let gsi = i32::try_from(gsi).map_err(|_| Errno::EINVAL)?;
    let argument = PhysdevSetupGsi { gsi, triggering: level.into(), polarity: active_low.into(), _pad: 0 };
    op(PHYSDEVOP_SETUP_GSI, argument).map(drop)
}

/// A number for a line's interrupt (`map_pirq`).
pub fn map_gsi(gsi: u32) -> Result<u32, Errno> {
    let index = i32::try_from(gsi).map_err(|_| Errno::EINVAL)?;
    map_pirq(PhysdevMapPirq { kind: MAP_PIRQ_TYPE_GSI, index, ..request() })
}

/// A number for a message of a PCI function: the only one, or with `table`, the base address of the region that holds its
/// table of messages, that of an entry (`map_pirq`).
pub fn map_message(segment: u16, bus: u8, devfn: u8, table: Option<(u64, u16)>) -> Result<u32, Errno> {
    let (table_base, entry) = table.unwrap_or((0, 0));
    map_pirq(PhysdevMapPirq {
        kind: MAP_PIRQ_TYPE_MSI_SEG,
        index: -1,
        bus: i32::from(segment.cast_signed()) << 16 | i32::from(bus),
        devfn: devfn.into(),
        entry_nr: entry.into(),
        table_base,
        ..request()
    })
}

fn request() -> PhysdevMapPirq {
    PhysdevMapPirq { domid: DOMID_SELF, pirq: -1, ..Default::default() }
}

fn map_pirq(request: PhysdevMapPirq) -> Result<u32, Errno> {
    let done = op(PHYSDEVOP_MAP_PIRQ, request)?;
    u32::try_from(done.pirq).map_err(|_| Errno::EINVAL)
}

/// Gives an interrupt's number back (`unmap_pirq`).
pub fn unmap_pirq(pirq: u32) -> Result<(), Errno> {
    let pirq = i32::try_from(pirq).map_err(|_| Errno::EINVAL)?;
    op(PHYSDEVOP_UNMAP_PIRQ, PhysdevUnmapPirq { domid: DOMID_SELF, _pad: 0, pirq }).map(drop)
}

/// The domain has dealt with an interrupt: the next may come (`eoi`).
pub fn end_interrupt(pirq: u32) -> Result<(), Errno> {
    op(PHYSDEVOP_EOI, PhysdevEoi { irq: pirq }).map(drop)
}

/// There is a PCI function here (`pci_device_add`).
pub fn add_pci_device(segment: u16, bus: u8, devfn: u8) -> Result<(), Errno> {
    op(PHYSDEVOP_PCI_DEVICE_ADD, PciDeviceAdd { at: PhysdevPciDevice { seg: segment, bus, devfn }, rest: [0; 2] })
        .map(drop)
}

/// `struct physdev_pci_device_add`, without what it may say of virtual functions and memory nodes.
#[repr(C)]
struct PciDeviceAdd {
    at: PhysdevPciDevice,
    rest: [u32; 2],
}
