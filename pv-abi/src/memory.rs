//! `memory_op`: the domain's memory reservation, and what the machine's memory looks like. Header: `memory.h`;
//! the address map is in `arch-x86/xen-x86_64.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First address of the hypervisor's part of every address space (L4 slot 256).
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address above the hypervisor's part (L4 slot 272).
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// First address of the machine-to-pseudo-physical table, an array of `u64` that guests may read.
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// First address above that table.
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;

/// Adds frames at no particular place: [`MemoryReservation`]. Returns the extents done.
pub const XENMEM_INCREASE_RESERVATION: u32 = 0;
/// Gives frames back: [`MemoryReservation`]. Returns the extents done.
pub const XENMEM_DECREASE_RESERVATION: u32 = 1;
/// Returns the number of the machine's highest frame. No argument.
pub const XENMEM_MAXIMUM_RAM_PAGE: u32 = 2;
/// Returns a domain's current number of frames: [`MemoryDomain`].
pub const XENMEM_CURRENT_RESERVATION: u32 = 3;
/// Returns a domain's limit in frames: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_RESERVATION: u32 = 4;
/// Lists the frames that hold the machine-to-physical table: [`MachphysMfnList`].
pub const XENMEM_MACHPHYS_MFN_LIST: u32 = 5;
/// Adds frames at given pseudo-physical frame numbers: [`MemoryReservation`]. Returns the extents done.
pub const XENMEM_POPULATE_PHYSMAP: u32 = 6;
/// Puts a frame into a translated guest's physical map: [`AddToPhysmap`].
pub const XENMEM_ADD_TO_PHYSMAP: u32 = 7;
/// Returns the domain's pseudo-physical memory map: [`MemoryMap`].
pub const XENMEM_MEMORY_MAP: u32 = 9;
/// Returns the machine's memory map, to the control domain: [`MemoryMap`].
pub const XENMEM_MACHINE_MEMORY_MAP: u32 = 10;
/// Swaps frames for others, for example contiguous ones: [`MemoryExchange`].
pub const XENMEM_EXCHANGE: u32 = 11;
/// Says where the machine-to-physical table is mapped: [`MachphysMapping`].
pub const XENMEM_MACHPHYS_MAPPING: u32 = 12;
/// Sets another domain's memory map: [`ForeignMemoryMap`].
pub const XENMEM_SET_MEMORY_MAP: u32 = 13;
/// Returns the highest pseudo-physical frame number in use: [`MemoryDomain`].
pub const XENMEM_MAXIMUM_GPFN: u32 = 14;
/// Takes a frame out of a translated guest's physical map: [`RemoveFromPhysmap`].
pub const XENMEM_REMOVE_FROM_PHYSMAP: u32 = 15;
/// [`XENMEM_ADD_TO_PHYSMAP`] for many frames.
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u32 = 23;
/// Sets frames aside for a domain that is being built.
pub const XENMEM_CLAIM_PAGES: u32 = 24;
/// Returns the domain's virtual NUMA topology.
pub const XENMEM_GET_VNUMAINFO: u32 = 26;
/// Maps a resource of another domain.
pub const XENMEM_ACQUIRE_RESOURCE: u32 = 28;

/// In [`MemoryReservation::mem_flags`]: the bits that limit the width of a machine address; 0 means no limit.
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;
/// In [`MemoryReservation::mem_flags`]: fill in frames when they are first touched.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// In [`MemoryReservation::mem_flags`]: take frames only from the NUMA node given.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 1 << 17;
/// In [`MemoryReservation::mem_flags`]: the NUMA node is a virtual one.
pub const XENMEMF_VNODE: u32 = 1 << 18;

/// In [`AddToPhysmap::space`]: the shared-info frame.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// In [`AddToPhysmap::space`]: a grant-table frame.
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;

/// A list of extents of memory: `struct xen_memory_reservation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryReservation {
    /// Guest address of an array of `u64`, the first frame number of each extent.
    ///
    /// In for populate (pseudo-physical) and decrease; out for increase and populate (machine).
    pub extent_start: u64,
    /// Extents in the array.
    pub nr_extents: u64,
    /// log2 of the frames in one extent.
    pub extent_order: u32,
    /// `XENMEMF_*` bits.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
}
layout!(MemoryReservation, 32, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);

/// Argument of [`XENMEM_EXCHANGE`]: `struct xen_memory_exchange`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryExchange {
    /// The extents given.
    pub input: MemoryReservation,
    /// The extents wanted.
    pub output: MemoryReservation,
    /// Input extents done so far. The guest sets it to 0, and its value is not to be trusted (XSA-212).
    pub nr_exchanged: u64,
}
layout!(MemoryExchange, 72, output @ 32, nr_exchanged @ 64);

/// Names a domain: `struct xen_memory_domain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryDomain {
    /// The domain.
    pub domid: u16,
}
layout!(MemoryDomain, 2);

/// Argument of [`XENMEM_MACHPHYS_MFN_LIST`]: `struct xen_machphys_mfn_list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MachphysMfnList {
    /// Entries the array can hold.
    pub max_extents: u32,
    /// Padding.
    pub _pad0: u32,
    /// Guest address of an array of `u64`; out: frame numbers, one for each 2 MiB of table.
    pub extent_start: u64,
    /// Out: entries written.
    pub nr_extents: u32,
    /// Padding.
    pub _pad1: u32,
}
layout!(MachphysMfnList, 24, extent_start @ 8, nr_extents @ 16);

/// Result of [`XENMEM_MACHPHYS_MAPPING`]: `struct xen_machphys_mapping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MachphysMapping {
    /// First address of the table.
    pub v_start: u64,
    /// First address above the table.
    pub v_end: u64,
    /// The highest machine frame number the table has an entry for.
    pub max_mfn: u64,
}
layout!(MachphysMapping, 24);

/// Argument of [`XENMEM_ADD_TO_PHYSMAP`]: `struct xen_add_to_physmap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AddToPhysmap {
    /// Whose physical map.
    pub domid: u16,
    /// Frames, for a range.
    pub size: u16,
    /// A `XENMAPSPACE_*` source.
    pub space: u32,
    /// Which frame of the source.
    pub idx: u64,
    /// The pseudo-physical frame number to put it at.
    pub gpfn: u64,
}
layout!(AddToPhysmap, 24);

/// Argument of [`XENMEM_REMOVE_FROM_PHYSMAP`]: `struct xen_remove_from_physmap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// Whose physical map.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// The pseudo-physical frame number to empty.
    pub gpfn: u64,
}
layout!(RemoveFromPhysmap, 16);

/// Argument of [`XENMEM_MEMORY_MAP`]: `struct xen_memory_map`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MemoryMap {
    /// In: entries the buffer can hold. Out: entries stored.
    pub nr_entries: u32,
    /// Padding.
    pub _pad: u32,
    /// Guest address of an array of [`E820Entry`].
    pub buffer: u64,
}
layout!(MemoryMap, 16);

/// Argument of [`XENMEM_SET_MEMORY_MAP`]: `struct xen_foreign_memory_map`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// Whose map to set.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// The map.
    pub map: MemoryMap,
}
layout!(ForeignMemoryMap, 24);

/// One range of a memory map, in the BIOS's E820 format: 20 bytes, the next one follows without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, packed(4))]
pub struct E820Entry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// [`E820_RAM`] or [`E820_RESERVED`], or another of the BIOS's types.
    pub kind: u32,
}
layout!(E820Entry, 20);

/// In [`E820Entry::kind`]: usable memory.
pub const E820_RAM: u32 = 1;
/// In [`E820Entry::kind`]: memory to leave alone.
pub const E820_RESERVED: u32 = 2;
