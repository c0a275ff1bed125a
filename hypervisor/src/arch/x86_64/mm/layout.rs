//! The hypervisor's address map: L4 slots 256 to 271 of every address space.
//!
//! | slot | what |
//! |---|---|
//! | 256 | machine-to-physical table, readable by guests |
//! | 257 | frame table |
//! | 258 | not used |
//! | 259 | image, CPU blocks, heap, devices, writable machine-to-physical table |
//! | 260 to 271 | direct map of all RAM |

use crate::addr::{HYPERVISOR_END, HYPERVISOR_START};

/// Bytes that one L4 entry maps.
pub const SLOT_SIZE: u64 = 1 << 39;
/// First L4 slot of the hypervisor, and how many it has.
pub const FIRST_SLOT: usize = 256;
/// Number of L4 slots of the hypervisor.
pub const SLOTS: usize = 16;

/// The machine-to-physical table as guests see it: one `u64` per frame, read-only. Xen ABI: `MACH2PHYS_VIRT_START`.
pub const M2P: u64 = HYPERVISOR_START;
/// The frame table: one record per frame.
pub const FRAME_TABLE: u64 = HYPERVISOR_START + SLOT_SIZE;
/// Where the image is linked; `hypervisor.ld` says the same.
pub const IMAGE_BASE: u64 = HYPERVISOR_START + 3 * SLOT_SIZE;
/// The CPUs' blocks, see [`crate::arch::percpu`].
pub const BLOCKS: u64 = IMAGE_BASE + 4 * GIB;
/// The heap grows from here to [`HEAP_END`].
pub const HEAP: u64 = IMAGE_BASE + 8 * GIB;
/// End of the heap's range.
pub const HEAP_END: u64 = IMAGE_BASE + 64 * GIB;
/// Registers of devices, uncached, handed out from here to [`DEVICES_END`].
pub const DEVICES: u64 = IMAGE_BASE + 64 * GIB;
/// End of the devices' range.
pub const DEVICES_END: u64 = IMAGE_BASE + 65 * GIB;
/// The machine-to-physical table again, writable, for the hypervisor only.
pub const M2P_WRITABLE: u64 = IMAGE_BASE + 128 * GIB;
/// What the boot loader maps for us at fixed places: stack, boot information, framebuffer, archive. Gone (the stack
/// apart) as soon as our own tables are loaded.
pub const LOADER: u64 = IMAGE_BASE + 256 * GIB;
/// The direct map: machine address 0 appears here. The boot loader maps it at the same place, so a pointer into it
/// is good before and after the change to our own tables.
pub const DIRECT_MAP: u64 = HYPERVISOR_START + 4 * SLOT_SIZE;
/// End of the direct map's range, which limits the RAM we can use to 6 TiB.
pub const DIRECT_MAP_END: u64 = HYPERVISOR_END;

const GIB: u64 = 1 << 30;

const _: () = assert!(HYPERVISOR_START + SLOTS as u64 * SLOT_SIZE == HYPERVISOR_END);
const _: () = assert!((DIRECT_MAP_END - DIRECT_MAP) / 4096 * 8 <= LOADER - M2P_WRITABLE);
