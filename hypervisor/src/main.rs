//! The hypervisor's entry from the boot loader, and its panic handler. Empty in a host build.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare {
    use bootloader_api::{BootInfo, entry_point};
    use core::panic::PanicInfo;
    use pavise::arch::{boot, cpu_features, mm, panic, uaccess};

    entry_point!(start, config = &boot::BOOTLOADER_CONFIG);

    fn start(info: &'static mut BootInfo) -> ! {
        let early = boot::early(info);
        if cpu_features::get().contains(cpu_features::Features::SMAP) {
            // SAFETY: no other CPU runs, there is no guest, and the boot loader's map of all memory is in force, which
            // gives a writable alias of our text.
            unsafe { uaccess::enable_smap(mm::image::boot_alias) };
        }
        // SAFETY: called once; nothing else of the boot loader's memory is in use.
        let memory = unsafe { boot::memory(early) };
        pavise::system::boot::start(memory)
    }

    #[panic_handler]
    fn panicked(info: &PanicInfo<'_>) -> ! {
        panic::die(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {}
