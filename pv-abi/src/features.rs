//! Feature bits, as `xen_version(XENVER_get_features)` reports them and as a kernel's ELF notes name them.
//! Header: `features.h`. The constants are bit numbers.

/// Page tables may stay mapped writable.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// Descriptor tables may stay mapped writable.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// The hypervisor translates pseudo-physical to machine addresses.
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The guest kernel runs in ring 0.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// A 32-bit guest's top-level tables may lie above 4 GiB.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// [`MMU_PT_UPDATE_PRESERVE_AD`](crate::mmu::MMU_PT_UPDATE_PRESERVE_AD) works. Linux requires it.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// `CLEAR_PAGE` and `COPY_PAGE` of `mmuext_op` work.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// A grant mapping takes the guest's "available" page-table bits. Linux requires it.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// A fully virtualized guest can get events through a vector.
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// The time record is safe to use in a fully virtualized guest.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// A fully virtualized guest can have its interrupts as events.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// The domain may act as domain 0.
pub const XENFEAT_DOM0: u32 = 11;
/// `memory_op` takes virtual NUMA nodes.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// Arm: the guest may use the SMC calling convention.
pub const XENFEAT_ARM_SMCCC_SUPPORTED: u32 = 14;
/// The ACPI root pointer may lie at any address (a PVH kernel's property).
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// Pseudo-physical addresses differ from machine addresses.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// Pseudo-physical addresses equal machine addresses.
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;

/// 32-bit words in the feature bitmap.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;

/// Feature names in the `FEATURES` ELF note, with their bits. The names are part of the ABI, but in no header.
pub const FEATURE_NAMES: [(&str, u32); 7] = [
    ("writable_page_tables", XENFEAT_WRITABLE_PAGE_TABLES),
    ("writable_descriptor_tables", XENFEAT_WRITABLE_DESCRIPTOR_TABLES),
    ("auto_translated_physmap", XENFEAT_AUTO_TRANSLATED_PHYSMAP),
    ("supervisor_mode_kernel", XENFEAT_SUPERVISOR_MODE_KERNEL),
    ("pae_pgdir_above_4gb", XENFEAT_PAE_PGDIR_ABOVE_4GB),
    ("hvm_callback_vector", XENFEAT_HVM_CALLBACK_VECTOR),
    ("dom0", XENFEAT_DOM0),
];
