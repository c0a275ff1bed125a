//! Domain numbers with a meaning of their own (`domid_t`). Header: `xen.h`.

/// The first number that no domain can have.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;
/// The calling domain.
pub const DOMID_SELF: u16 = 0x7ff0;
/// The owner of I/O memory, in `mmu_update`: only I/O mappings are allowed.
pub const DOMID_IO: u16 = 0x7ff1;
/// The owner of hypervisor memory that a guest may map.
pub const DOMID_XEN: u16 = 0x7ff2;
/// The owner of pages shared copy-on-write.
pub const DOMID_COW: u16 = 0x7ff3;
/// Never a domain.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: u16 = 0x7fff;
/// The bits a domain number may use.
pub const DOMID_MASK: u16 = 0x7fff;

/// Bytes in a domain's handle, an opaque identifier (a UUID) that the toolstack chooses: `xen_domain_handle_t`.
pub const DOMAIN_HANDLE_LEN: usize = 16;
