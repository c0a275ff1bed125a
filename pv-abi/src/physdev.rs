//! `physdev_op`: I/O privilege, physical interrupts and PCI devices. Header: `physdev.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Says what the guest must do for an interrupt line: [`PhysdevIrqStatusQuery`].
pub const PHYSDEVOP_IRQ_STATUS_QUERY: u32 = 5;
/// Sets the vCPU's virtual I/O privilege level: [`PhysdevSetIopl`].
pub const PHYSDEVOP_SET_IOPL: u32 = 6;
/// Sets the vCPU's bitmap of I/O ports that user mode may use: [`PhysdevSetIobitmap`].
pub const PHYSDEVOP_SET_IOBITMAP: u32 = 7;
/// Reads an IO-APIC register: [`PhysdevApic`].
pub const PHYSDEVOP_APIC_READ: u32 = 8;
/// Writes an IO-APIC register: [`PhysdevApic`].
pub const PHYSDEVOP_APIC_WRITE: u32 = 9;
/// Ends an interrupt: [`PhysdevEoi`].
pub const PHYSDEVOP_EOI: u32 = 12;
/// Gives a physical interrupt a number: [`PhysdevMapPirq`].
pub const PHYSDEVOP_MAP_PIRQ: u32 = 13;
/// Gives the number back: [`PhysdevUnmapPirq`].
pub const PHYSDEVOP_UNMAP_PIRQ: u32 = 14;
/// Registers a page in which the hypervisor marks interrupts that need an end: [`PhysdevPirqEoiGmfn`].
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V2: u32 = 28;
/// Sets the trigger and polarity of an IO-APIC input: [`PhysdevSetupGsi`].
pub const PHYSDEVOP_SETUP_GSI: u32 = 21;
/// Returns an unused interrupt number: [`PhysdevGetFreePirq`].
pub const PHYSDEVOP_GET_FREE_PIRQ: u32 = 23;
/// Announces a PCI device.
pub const PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25;
/// Announces that a PCI device is gone: [`PhysdevPciDevice`].
pub const PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26;

/// In [`PhysdevIrqStatusQuery::flags`]: the guest must end each interrupt with [`PHYSDEVOP_EOI`].
pub const XENIRQSTAT_NEEDS_EOI: u32 = 1 << 0;
/// In [`PhysdevIrqStatusQuery::flags`]: the line is shared by guests.
pub const XENIRQSTAT_SHARED: u32 = 1 << 1;

/// In [`PhysdevMapPirq::kind`]: message-signalled, in PCI segment 0.
pub const MAP_PIRQ_TYPE_MSI: u32 = 0;
/// In [`PhysdevMapPirq::kind`]: an IO-APIC input.
pub const MAP_PIRQ_TYPE_GSI: u32 = 1;
/// In [`PhysdevMapPirq::kind`]: not known.
pub const MAP_PIRQ_TYPE_UNKNOWN: u32 = 2;
/// In [`PhysdevMapPirq::kind`]: message-signalled, with a PCI segment.
pub const MAP_PIRQ_TYPE_MSI_SEG: u32 = 3;
/// In [`PhysdevMapPirq::kind`]: several message-signalled interrupts.
pub const MAP_PIRQ_TYPE_MULTI_MSI: u32 = 4;

/// `struct physdev_set_iopl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetIopl {
    /// The level, 0 to 3; the guest kernel counts as ring 1.
    pub iopl: u32,
}
layout!(PhysdevSetIopl, 4);

/// `struct physdev_set_iobitmap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetIobitmap {
    /// Guest address of the bitmap; a clear bit allows the port.
    pub bitmap: u64,
    /// Ports in the bitmap.
    pub nr_ports: u32,
    /// Padding.
    pub _pad: u32,
}
layout!(PhysdevSetIobitmap, 16);

/// `struct physdev_irq_status_query`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevIrqStatusQuery {
    /// In: the interrupt.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*` bits.
    pub flags: u32,
}
layout!(PhysdevIrqStatusQuery, 8);

/// `struct physdev_apic`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevApic {
    /// In: the machine address of the IO-APIC.
    pub apic_physbase: u64,
    /// In: the register.
    pub reg: u32,
    /// In or out: its value.
    pub value: u32,
}
layout!(PhysdevApic, 16);

/// `struct physdev_eoi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevEoi {
    /// The interrupt.
    pub irq: u32,
}
layout!(PhysdevEoi, 4);

/// `struct physdev_pirq_eoi_gmfn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPirqEoiGmfn {
    /// The page's frame number.
    pub gmfn: u64,
}
layout!(PhysdevPirqEoiGmfn, 8);

/// `struct physdev_map_pirq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevMapPirq {
    /// In: whose interrupt.
    pub domid: u16,
    /// Padding.
    pub _pad0: u16,
    /// In: a `MAP_PIRQ_TYPE_*`; the header's field is `type`, an `int`.
    pub kind: u32,
    /// In: the IO-APIC input, or -1 for a message-signalled interrupt.
    pub index: i32,
    /// In: the number wanted, or -1 for any. Out: the number given.
    pub pirq: i32,
    /// In: the PCI bus, with the segment in the upper 16 bits.
    pub bus: i32,
    /// In: the PCI device and function.
    pub devfn: i32,
    /// In: the MSI-X entry, or the number of interrupts.
    pub entry_nr: i32,
    /// Padding.
    pub _pad1: u32,
    /// In: the machine address of the MSI-X table; 0 for MSI.
    pub table_base: u64,
}
layout!(PhysdevMapPirq, 40, table_base @ 32);

/// `struct physdev_unmap_pirq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevUnmapPirq {
    /// Whose interrupt.
    pub domid: u16,
    /// Padding.
    pub _pad: u16,
    /// Its number.
    pub pirq: i32,
}
layout!(PhysdevUnmapPirq, 8);

/// `struct physdev_setup_gsi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetupGsi {
    /// The IO-APIC input.
    pub gsi: i32,
    /// 0 edge, 1 level.
    pub triggering: u8,
    /// 0 active high, 1 active low.
    pub polarity: u8,
    /// Padding.
    pub _pad: u16,
}
layout!(PhysdevSetupGsi, 8);

/// `struct physdev_get_free_pirq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevGetFreePirq {
    /// In: [`MAP_PIRQ_TYPE_GSI`] or [`MAP_PIRQ_TYPE_MSI`]; the header's field is `type`, an `int`.
    pub kind: u32,
    /// Out: the number.
    pub pirq: u32,
}
layout!(PhysdevGetFreePirq, 8);

/// Names a PCI device: `struct physdev_pci_device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPciDevice {
    /// Segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}
layout!(PhysdevPciDevice, 4);
