//! The hardware, which is another domain's.

use crate::check::{Told, call, equal, refused, refuses_bad_pointers};
use crate::stories::mmu::ground::{READ, Tree, WINDOW, WRITE, map};
use guest_kernel::hypercall::{self, Flush, Vcpus, physdev_op, update_va_mapping_otherdomain};
use guest_kernel::{ports, probe};
use pv_abi::domid::{DOMID_IO, DOMID_SELF};
use pv_abi::errno::Errno;
use pv_abi::event::{EVTCHNOP_BIND_PIRQ, EvtchnBindPirq};
use pv_abi::hypercall::PHYSDEV_OP;
use pv_abi::physdev::*;

/// The neighbour, which this story always has.
const NEIGHBOUR: u16 = 2;

/// Ports of PCI configuration, of controllers, timers, the console, the exit device.
const PORTS: [u16; 12] = [0x20, 0x21, 0x40, 0x60, 0x64, 0x71, 0xf4, 0x3f8, 0x3fd, 0x4d0, 0xcf9, 0xcfc];

/// Device frames of every PC: video memory, I/O APIC, timer, local APIC, firmware.
const FRAMES: [u64; 5] = [0xa0, 0xf_ec00, 0xf_ed00, 0xf_ee00, 0xf_fff0];

/// Ports read as all ones, and writes go nowhere, with all the I/O privilege there is.
pub fn ports() -> Told {
    equal("privilege", hypercall::set_iopl(3), Ok(()))?;
    for port in PORTS {
        equal("in", probe::inb(port).ok(), Some(0xff))?;
        // SAFETY: nothing listens; if something did, the story would end with the machine.
        equal("out", unsafe { probe::outb(port, 0x06) }.ok(), Some(()))?;
    }
    // SAFETY: as above.
    let read = unsafe {
        ports::write_u32(0xcf8, 0x8000_0000);
        [ports::read_u32(0xcf8), ports::read_u32(0xcfc)]
    };
    equal("configuration", read, [u32::MAX; 2])
}

/// Device frames can't be mapped, in whoever's name.
pub fn frames() -> Told {
    let tree = Tree::hooked()?;
    for frame in FRAMES {
        for flags in [READ, WRITE, WRITE | 1 << 4] {
            let entry = frame << 12 | flags;
            equal("as one's own", map(WINDOW, entry).is_err(), true)?;
            // SAFETY: nothing lives there.
            let mapped = unsafe { update_va_mapping_otherdomain(WINDOW, entry, Flush::Address(Vcpus::All), DOMID_IO) };
            refused("as a device's", mapped, Errno::EPERM)?;
        }
    }
    equal("the entry", tree.l1.read(0) >> 12 & 0xff_ffff_ffff, tree.data.mfn)
}

/// Interrupts and PCI functions.
pub fn interrupts() -> Told {
    let map = PhysdevMapPirq { domid: DOMID_SELF, kind: MAP_PIRQ_TYPE_GSI, index: 10, pirq: -1, ..Default::default() };
    is_refused("a line", PHYSDEVOP_MAP_PIRQ, map)?;
    is_refused("another's line", PHYSDEVOP_MAP_PIRQ, PhysdevMapPirq { domid: NEIGHBOUR, ..map })?;
    is_refused("a message", PHYSDEVOP_MAP_PIRQ, PhysdevMapPirq { kind: MAP_PIRQ_TYPE_MSI, devfn: 0x18, ..map })?;
    is_refused("unmapping", PHYSDEVOP_UNMAP_PIRQ, PhysdevUnmapPirq { domid: DOMID_SELF, _pad: 0, pirq: 10 })?;
    is_refused("a line's nature", PHYSDEVOP_SETUP_GSI, PhysdevSetupGsi { gsi: 10, ..Default::default() })?;
    is_refused("a number", PHYSDEVOP_GET_FREE_PIRQ, PhysdevGetFreePirq::default())?;
    is_refused("a function", PHYSDEVOP_PCI_DEVICE_ADD, PhysdevPciDevice::default())?;
    is_refused("a function's end", PHYSDEVOP_PCI_DEVICE_REMOVE, PhysdevPciDevice::default())?;
    is_refused("a controller", PHYSDEVOP_APIC_READ, PhysdevApic { apic_physbase: 0xfec0_0000, ..Default::default() })?;
    is_refused(
        "a controller's change",
        PHYSDEVOP_APIC_WRITE,
        PhysdevApic { apic_physbase: 0xfec0_0000, ..Default::default() },
    )?;
    for irq in [0, 10, 255, 256, u32::MAX] {
        // SAFETY: command and structure belong together.
        let ended = unsafe { physdev_op(PHYSDEVOP_EOI, &mut PhysdevEoi { irq }) };
        refused("an end", ended, Errno::EINVAL)?;
        let mut bind = EvtchnBindPirq { pirq: irq, flags: 0, port: 0 };
        // SAFETY: as above.
        let bound = unsafe { hypercall::event_channel_op(EVTCHNOP_BIND_PIRQ, &mut bind) };
        refused("a port", bound, Errno::EPERM)?;
    }
    refuses_bad_pointers("map_pirq", |pointer| call(PHYSDEV_OP, [PHYSDEVOP_MAP_PIRQ.into(), pointer]))
}

fn is_refused<T>(what: &str, command: u32, mut argument: T) -> Told {
    // SAFETY: the callers pair command and structure.
    refused(what, unsafe { physdev_op(command, &mut argument) }, Errno::EPERM)
}
