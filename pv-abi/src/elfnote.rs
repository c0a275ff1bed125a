//! ELF notes by which a kernel says how it wants to be started. Header: `elfnote.h`.
//!
//! The owner is [`OWNER`]; the constants are note types. "Number" is a little-endian value as wide as the note's
//! descriptor; "text" need not end in NUL.

/// The owner name of the notes, without the NUL.
pub const OWNER: &str = "Xen";

/// Text, for information.
pub const XEN_ELFNOTE_INFO: u32 = 0;
/// Number: the virtual address of the entry point.
pub const XEN_ELFNOTE_ENTRY: u32 = 1;
/// Number: the virtual address of a page for the hypervisor to fill with call stubs.
pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
/// Number: the virtual address of pseudo-physical frame 0.
pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
/// Number: what to subtract from the file's physical addresses.
pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
/// Text: the interface version, `xen-3.0`.
pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
/// Text: the operating system.
pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// Text: its version.
pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
/// Text: the loader, `generic`.
pub const XEN_ELFNOTE_LOADER: u32 = 8;
/// Text: page-table format of a 32-bit kernel.
pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
/// Text: features by name, separated by `|`, required ones marked `!`.
pub const XEN_ELFNOTE_FEATURES: u32 = 10;
/// Text: whether the kernel wants its symbol table loaded.
pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
/// Number: the lowest address the hypervisor may use for itself.
pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
/// Pairs of mask and value that tell a valid L1 entry.
pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
/// Number: 1 if the suspend call may return "cancelled".
pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
/// Number: the virtual address for the initial physical-to-machine table.
pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
/// Number: 1 if the kernel takes its module (initrd) as an unmapped frame number.
pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
/// Number: bitmap of supported [`crate::features`].
pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
/// Number: the entry point for PVH.
pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// The highest type known to these headers.
pub const XEN_ELFNOTE_MAX: u32 = XEN_ELFNOTE_PHYS32_ENTRY;
