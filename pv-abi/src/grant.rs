//! Grant tables, version 1: how a domain lets another use a frame of its memory. Header: `grant_table.h`.
//!
//! `grant_table_op` takes an operation, an array of its structs and their number. It returns an error only if the call
//! as a whole is wrong; each struct has a status (`GNTST_*`) of its own.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One grant in the shared table: `struct grant_entry_v1`.
///
/// `flags` and `domid` change together, by atomic access to the 32-bit word they form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GrantEntry {
    /// `GTF_*` type and bits.
    pub flags: u16,
    /// Who may use the frame.
    pub domid: u16,
    /// The frame's machine number.
    pub frame: u32,
}
layout!(GrantEntry, 8, domid @ 2, frame @ 4);

/// The first references are for the toolstack.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// The reference of the console ring.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// The reference of the XenStore ring.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// [`GrantEntry::flags`], type: unused.
pub const GTF_INVALID: u16 = 0;
/// [`GrantEntry::flags`], type: the frame may be mapped and copied.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// [`GrantEntry::flags`], type: a frame may be handed over.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// [`GrantEntry::flags`], type: another grant is passed on (version 2 only).
pub const GTF_TRANSITIVE: u16 = 3;
/// [`GrantEntry::flags`]: the bits of the type.
pub const GTF_TYPE_MASK: u16 = 3;
/// [`GrantEntry::flags`]: the frame may only be read.
pub const GTF_READONLY: u16 = 1 << 2;
/// [`GrantEntry::flags`], set by the hypervisor: the grant is in use.
pub const GTF_READING: u16 = 1 << 3;
/// [`GrantEntry::flags`], set by the hypervisor: the grant is in use for writing.
pub const GTF_WRITING: u16 = 1 << 4;
/// [`GrantEntry::flags`]: cache attribute of mappings.
pub const GTF_PWT: u16 = 1 << 5;
/// [`GrantEntry::flags`]: cache attribute of mappings.
pub const GTF_PCD: u16 = 1 << 6;
/// [`GrantEntry::flags`]: cache attribute of mappings.
pub const GTF_PAT: u16 = 1 << 7;
/// [`GrantEntry::flags`]: only a part of the frame (version 2 only).
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Maps granted frames: [`GnttabMapGrantRef`].
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// Unmaps granted frames: [`GnttabUnmapGrantRef`].
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// Grows the shared table and lists its frames: [`GnttabSetupTable`].
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// Prints the table to the hypervisor's console.
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// Hands frames over.
pub const GNTTABOP_TRANSFER: u32 = 4;
/// Copies to and from granted frames: [`GnttabCopy`].
pub const GNTTABOP_COPY: u32 = 5;
/// Tells the table's size: [`GnttabQuerySize`].
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// Unmaps a frame and moves another mapping to its place: [`GnttabUnmapAndReplace`].
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// Chooses the table's version: [`GnttabSetVersion`].
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// Lists the frames of the status table (version 2 only): [`GnttabGetStatusFrames`].
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// Tells the table's version: [`GnttabGetVersion`].
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// Swaps two references: [`GnttabSwapGrantRef`].
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// Cleans the caches for a granted frame.
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;

bitflags! {
    /// In [`GnttabMapGrantRef::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GrantMapFlags: u32 {
        /// Make the frame accessible to devices.
        const DEVICE_MAP = 1 << 0;
        /// Map the frame in the caller's address space.
        const HOST_MAP = 1 << 1;
        /// For reading only.
        const READONLY = 1 << 2;
        /// User mode may use the mapping too.
        const APPLICATION_MAP = 1 << 3;
        /// The address is the machine address of the page-table entry to write.
        const CONTAINS_PTE = 1 << 4;
        /// Bits for the "available" bits of the page-table entry.
        const GUEST_AVAIL_MASK = 0xffff << 16;
    }

    /// In [`GnttabCopy::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GrantCopyFlags: u16 {
        /// The source is a grant reference.
        const SOURCE_GREF = 1 << 0;
        /// The destination is a grant reference.
        const DEST_GREF = 1 << 1;
    }
}

/// Argument of [`GNTTABOP_MAP_GRANT_REF`]: `struct gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabMapGrantRef {
    /// In: guest address to map at, or the machine address of a page-table entry.
    pub host_addr: u64,
    /// In: [`GrantMapFlags`].
    pub flags: u32,
    /// In: the grant reference. The header's field is `ref`.
    pub gref: u32,
    /// In: the domain that granted it.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: names the mapping in later calls.
    pub handle: u32,
    /// Out: the frame's address for devices.
    pub dev_bus_addr: u64,
}
layout!(GnttabMapGrantRef, 32, flags @ 8, dom @ 16, status @ 18, handle @ 20, dev_bus_addr @ 24);

/// Argument of [`GNTTABOP_UNMAP_GRANT_REF`]: `struct gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabUnmapGrantRef {
    /// In: as it was mapped; 0 to leave that mapping.
    pub host_addr: u64,
    /// In: as it was returned; 0 to leave that mapping.
    pub dev_bus_addr: u64,
    /// In: the mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout!(GnttabUnmapGrantRef, 24, handle @ 16, status @ 20);

/// Argument of [`GNTTABOP_SETUP_TABLE`]: `struct gnttab_setup_table`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSetupTable {
    /// In: whose table.
    pub dom: u16,
    /// Padding.
    pub _pad0: u16,
    /// In: frames the table should have at least.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u16; 3],
    /// Guest address of an array of `u64`; out: the machine frame numbers.
    pub frame_list: u64,
}
layout!(GnttabSetupTable, 24, nr_frames @ 4, status @ 8, frame_list @ 16);

/// One end of a copy: `struct gnttab_copy_ptr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabCopyPtr {
    /// A frame number (`u.gmfn`), or a grant reference (`u.ref`) in the low 32 bits with anything above them.
    pub u: u64,
    /// The granting domain, or `DOMID_SELF`.
    pub domid: u16,
    /// Bytes into the frame.
    pub offset: u16,
    /// Padding.
    pub _pad: u32,
}
layout!(GnttabCopyPtr, 16, domid @ 8, offset @ 10);

impl GnttabCopyPtr {
    /// [`GnttabCopyPtr::u`] read as a grant reference.
    pub const fn gref(&self) -> u32 {
        (self.u & 0xffff_ffff) as u32
    }
}

/// Argument of [`GNTTABOP_COPY`]: `struct gnttab_copy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabCopy {
    /// In: from where.
    pub source: GnttabCopyPtr,
    /// In: to where.
    pub dest: GnttabCopyPtr,
    /// In: bytes.
    pub len: u16,
    /// In: [`GrantCopyFlags`].
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout!(GnttabCopy, 40, dest @ 16, len @ 32, flags @ 34, status @ 36);

/// Argument of [`GNTTABOP_QUERY_SIZE`]: `struct gnttab_query_size`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabQuerySize {
    /// In: whose table.
    pub dom: u16,
    /// Padding.
    pub _pad0: u16,
    /// Out: frames it has.
    pub nr_frames: u32,
    /// Out: frames it may have.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: u16,
}
layout!(GnttabQuerySize, 16, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// Argument of [`GNTTABOP_SET_VERSION`]: `struct gnttab_set_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSetVersion {
    /// In: the version wanted. Out: the version in use.
    pub version: u32,
}
layout!(GnttabSetVersion, 4);

/// Argument of [`GNTTABOP_UNMAP_AND_REPLACE`]: `struct gnttab_unmap_and_replace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabUnmapAndReplace {
    /// In: as it was mapped.
    pub host_addr: u64,
    /// In: the guest address whose page-table entry comes to the place of the mapping's; 0 for none.
    pub new_addr: u64,
    /// In: the mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout!(GnttabUnmapAndReplace, 24, new_addr @ 8, handle @ 16, status @ 20);

/// Argument of [`GNTTABOP_GET_STATUS_FRAMES`]: `struct gnttab_get_status_frames`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabGetStatusFrames {
    /// In: entries of the list.
    pub nr_frames: u32,
    /// In: whose table.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Guest address of an array of `u64`; out: the machine frame numbers.
    pub frame_list: u64,
}
layout!(GnttabGetStatusFrames, 16, dom @ 4, status @ 6, frame_list @ 8);

/// Argument of [`GNTTABOP_SWAP_GRANT_REF`]: `struct gnttab_swap_grant_ref`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSwapGrantRef {
    /// In: one reference.
    pub ref_a: u32,
    /// In: the other.
    pub ref_b: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout!(GnttabSwapGrantRef, 12, ref_b @ 4, status @ 8);

/// Argument of [`GNTTABOP_GET_VERSION`]: `struct gnttab_get_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabGetVersion {
    /// In: whose table.
    pub dom: u16,
    /// Padding.
    pub _pad: u16,
    /// Out: its version.
    pub version: u32,
}
layout!(GnttabGetVersion, 8);

/// Done.
pub const GNTST_OKAY: i16 = 0;
/// Failed for another reason.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// There is no such domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// The grant reference is not one, or not for the caller.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// There is no such mapping.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// The address to map at is not usable.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// The device address does not belong to the mapping.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// The I/O MMU is full.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// The caller may not do this.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// The frame is not one that can be granted.
pub const GNTST_BAD_PAGE: i16 = -9;
/// The copy crosses the end of a frame, or makes no sense otherwise.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// The frame number is too large for the table.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Not now; may succeed later.
pub const GNTST_EAGAIN: i16 = -12;
/// There is no room for another mapping.
pub const GNTST_NO_SPACE: i16 = -13;
