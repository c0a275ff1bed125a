//! The hypervisor's entry from the boot loader, and its panic handler. Empty in a host build.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use core::panic::PanicInfo;

    bootloader_api::entry_point!(pavise::start, config = &pavise::BOOTLOADER_CONFIG);

    #[panic_handler]
    fn panicked(info: &PanicInfo<'_>) -> ! {
        pavise::panicked(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
