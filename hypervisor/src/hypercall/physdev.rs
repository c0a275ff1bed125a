//! `physdev_op` (`physdev.h`): I/O privilege for all, interrupts and PCI functions for the domain that has the hardware. The
//! rules are in [`device`](crate::device).

use alloc::sync::Arc;

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::physdev::{
    MAP_PIRQ_TYPE_GSI, MAP_PIRQ_TYPE_MSI, MAP_PIRQ_TYPE_MSI_SEG, MAP_PIRQ_TYPE_MULTI_MSI, PHYSDEVOP_APIC_READ,
    PHYSDEVOP_APIC_WRITE, PHYSDEVOP_EOI, PHYSDEVOP_GET_FREE_PIRQ, PHYSDEVOP_IRQ_STATUS_QUERY, PHYSDEVOP_MAP_PIRQ,
    PHYSDEVOP_PCI_DEVICE_ADD, PHYSDEVOP_PCI_DEVICE_REMOVE, PHYSDEVOP_SET_IOBITMAP, PHYSDEVOP_SET_IOPL,
    PHYSDEVOP_SETUP_GSI, PHYSDEVOP_UNMAP_PIRQ, PhysdevEoi, PhysdevGetFreePirq, PhysdevIrqStatusQuery, PhysdevMapPirq,
    PhysdevPciDevice, PhysdevSetIobitmap, PhysdevSetIopl, PhysdevSetupGsi, PhysdevUnmapPirq, XENIRQSTAT_NEEDS_EOI,
};

use super::{Call, Platform, Reply};
use crate::addr::{DomainId, Mfn};
use crate::device::Hardware;
use crate::device::interrupts::Table;
use crate::device::pirq::{Function, PIRQS, Source};
use crate::domain::vcpu::IoBitmap;

/// `(int cmd, void *arg)`.
pub(super) fn physdev_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let address = call.word(1);
    match call.u32(0) {
        PHYSDEVOP_SET_IOPL => set_iopl(call, address),
        PHYSDEVOP_SET_IOBITMAP => set_iobitmap(call, address),
        PHYSDEVOP_EOI => eoi(call, address),
        PHYSDEVOP_IRQ_STATUS_QUERY => irq_status_query(call, address),
        PHYSDEVOP_MAP_PIRQ => map_pirq(call, address),
        PHYSDEVOP_UNMAP_PIRQ => unmap_pirq(call, address),
        PHYSDEVOP_SETUP_GSI => setup_gsi(call, address),
        PHYSDEVOP_GET_FREE_PIRQ => get_free_pirq(call, address),
        PHYSDEVOP_PCI_DEVICE_ADD => pci_device_add(call, address),
        PHYSDEVOP_PCI_DEVICE_REMOVE => pci_device_remove(call, address),
        // The I/O APICs' registers are the hypervisor's. Xen lets its first domain read them.
        PHYSDEVOP_APIC_READ | PHYSDEVOP_APIC_WRITE => Err(Errno::EPERM.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// The virtual I/O privilege level.
fn set_iopl<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    const RING_3: u32 = 3;
    let request: PhysdevSetIopl = call.read(address)?;
    if request.iopl > RING_3 {
        return Err(Errno::EINVAL.into());
    }
    call.vcpu.control.iopl = request.iopl.to_le_bytes()[0];
    Ok(0)
}

/// The bitmap of ports that user mode may reach without it.
fn set_iobitmap<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    const ALL_PORTS: u32 = 1 << 16;
    let PhysdevSetIobitmap { bitmap, nr_ports, .. } = call.read(address)?;
    if nr_ports > ALL_PORTS {
        return Err(Errno::EINVAL.into());
    }
    call.vcpu.io_bitmap = IoBitmap { address: bitmap, ports: nr_ports };
    Ok(0)
}

/// The hardware of the caller.
///
/// # Errors
/// `EPERM` if it has none.
fn hardware<P: Platform>(call: &Call<'_, P>) -> Result<Arc<Hardware>, Errno> {
    call.platform.hardware().cloned().ok_or(Errno::EPERM)
}

/// The hardware of the caller, for a call that names the domain that it is about.
///
/// # Errors
/// `ESRCH` if there is no such domain, `EPERM` if the caller has no hardware; `EOPNOTSUPP` for another domain: devices are not
/// passed on.
fn hardware_for<P: Platform>(call: &Call<'_, P>, named: u16) -> Result<Arc<Hardware>, Errno> {
    let is_own = named == DOMID_SELF || named == call.vcpu.domain.0;
    if !is_own && call.platform.events_of(DomainId(named)).is_none() {
        return Err(Errno::ESRCH);
    }
    hardware(call).and_then(|hardware| if is_own { Ok(hardware) } else { Err(Errno::EOPNOTSUPP) })
}

/// The domain has dealt with an interrupt.
fn eoi<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let PhysdevEoi { irq } = call.read(address)?;
    let hardware = hardware(call).map_err(|_| Errno::EINVAL)?;
    if let Some(wake) = hardware.interrupts.end(irq)? {
        wake.kick(call.platform);
    }
    Ok(0)
}

/// Every interrupt wants its end to be told ([`pirq`](crate::device::pirq) says why).
fn irq_status_query<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: PhysdevIrqStatusQuery = call.read(address)?;
    if request.irq >= PIRQS {
        return Err(Errno::EINVAL.into());
    }
    call.write(address, &PhysdevIrqStatusQuery { flags: XENIRQSTAT_NEEDS_EOI, ..request })?;
    Ok(0)
}

fn map_pirq<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: PhysdevMapPirq = call.read(address)?;
    let hardware = hardware_for(call, request.domid)?;
    let (source, table) = source(call, &hardware, &request)?;
    let pirq = hardware.interrupts.map(source, u32::try_from(request.pirq).ok(), table.as_ref())?;
    let pirq = i32::try_from(pirq).map_err(|_| Errno::ENOSPC)?;
    call.write(address, &PhysdevMapPirq { pirq, ..request })?;
    Ok(0)
}

/// What a request names, and the table of messages if it is in one.
fn source<P: Platform>(
    call: &Call<'_, P>,
    hardware: &Hardware,
    request: &PhysdevMapPirq,
) -> Result<(Source, Option<Table>), Errno> {
    let [bus, _, low, high] = request.bus.to_le_bytes();
    let segment = match request.kind {
        MAP_PIRQ_TYPE_GSI => {
            let gsi = u32::try_from(request.index).map_err(|_| Errno::EINVAL)?;
            return Ok((Source::Pin { gsi }, None));
        }
        MAP_PIRQ_TYPE_MSI => 0,
        MAP_PIRQ_TYPE_MSI_SEG => u16::from_le_bytes([low, high]),
        // Several messages in a row: drivers ask for one then.
        MAP_PIRQ_TYPE_MULTI_MSI => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    };
    let function = Function { segment, bus, devfn: request.devfn.to_le_bytes()[0] };
    if request.table_base == 0 {
        return Ok((Source::Msi { function }, None));
    }
    let entry = u16::try_from(request.entry_nr).map_err(|_| Errno::EINVAL)?;
    let table = hardware.interrupts.machine().table(function)?.ok_or(Errno::ENODEV)?;
    if request.table_base != table.base {
        return Err(Errno::EINVAL);
    }
    protect(call, hardware, &table)?;
    Ok((Source::Msix { function, entry }, Some(table)))
}

/// Makes a table of messages the hypervisor's to write. Where it is was said by the function, whose registers the domain
/// writes as it likes.
///
/// # Errors
/// `EINVAL` if RAM or something of the hypervisor's is there; `ENOSPC`.
fn protect<P: Platform>(call: &Call<'_, P>, hardware: &Hardware, table: &Table) -> Result<(), Errno> {
    let ram = call.platform.mmu().frames;
    let mut frames = table.frames().map(Mfn);
    if !frames.all(|mfn| ram.is_device(mfn) && hardware.frames.permits(mfn, false)) {
        return Err(Errno::EINVAL);
    }
    hardware.frames.protect(table.frames()).map_err(|_| Errno::ENOSPC)
}

fn unmap_pirq<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let PhysdevUnmapPirq { domid, pirq, .. } = call.read(address)?;
    let hardware = hardware_for(call, domid)?;
    hardware.interrupts.unmap(u32::try_from(pirq).map_err(|_| Errno::EINVAL)?)?;
    Ok(0)
}

/// How a line is driven. What ACPI says of it is right, whatever the domain says.
fn setup_gsi<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let PhysdevSetupGsi { gsi, triggering, polarity, .. } = call.read(address)?;
    let hardware = hardware(call)?;
    let gsi = u32::try_from(gsi).map_err(|_| Errno::EINVAL)?;
    hardware.interrupts.machine().set_line(gsi, triggering != 0, polarity != 0)?;
    Ok(0)
}

fn get_free_pirq<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: PhysdevGetFreePirq = call.read(address)?;
    let pirq = hardware(call)?.interrupts.free_number()?;
    call.write(address, &PhysdevGetFreePirq { pirq, ..request })?;
    Ok(0)
}

/// A PCI function is there. Its table of messages is the hypervisor's from now on. What the request says of virtual functions
/// and memory nodes isn't needed.
fn pci_device_add<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let function = function(call.read(address)?);
    let hardware = hardware(call)?;
    if let Some(table) = hardware.interrupts.machine().table(function)? {
        protect(call, &hardware, &table)?;
    }
    Ok(0)
}

/// A PCI function is gone.
fn pci_device_remove<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let function = function(call.read(address)?);
    hardware(call)?.interrupts.forget(function);
    Ok(0)
}

fn function(PhysdevPciDevice { seg: segment, bus, devfn }: PhysdevPciDevice) -> Function {
    Function { segment, bus, devfn }
}
