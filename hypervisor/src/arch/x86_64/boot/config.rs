//! What we ask of the boot loader.

use bootloader_api::BootloaderConfig;
use bootloader_api::config::{Mapping, Mappings};

use crate::addr::PAGE_SIZE;
use crate::arch::mm::layout::{DIRECT_MAP, LOADER};
use crate::arch::percpu::BLOCK_SIZE;

const GIB: u64 = 1 << 30;

const _: () = assert!(LOADER.is_multiple_of(BLOCK_SIZE as u64));

/// The boot loader gives every mapping without a fixed place an L4 slot of its own, low ones first. We have none to
/// spare, so all have a fixed place: in our own slots, where our page tables have nothing else.
///
/// The stack, with the guard page below it, is as large as a CPU's block and aligned like one, so that it can have a
/// [`CpuTop`](crate::arch::percpu::CpuTop) too.
pub static BOOTLOADER_CONFIG: BootloaderConfig = {
    let mut mappings = Mappings::new_default();
    mappings.physical_memory = Some(Mapping::FixedAddress(DIRECT_MAP));
    mappings.kernel_stack = Mapping::FixedAddress(LOADER);
    mappings.boot_info = Mapping::FixedAddress(LOADER + GIB);
    mappings.framebuffer = Mapping::FixedAddress(LOADER + 2 * GIB);
    mappings.ramdisk_memory = Mapping::FixedAddress(LOADER + 16 * GIB);
    let mut config = BootloaderConfig::new_default();
    config.mappings = mappings;
    config.kernel_stack_size = (BLOCK_SIZE - PAGE_SIZE) as u64;
    config
};
