//! Entry
#![cfg_attr(target_os = "none", no_std, no_main)]
#[cfg(target_os = "none")]
mod bare {
    use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
    const CONFIG: BootloaderConfig = BootloaderConfig::new_default();
    entry_point!(start, config = &CONFIG);
    fn start(_info: &'static mut BootInfo) -> ! {
        let mut port: x86_64::instructions::port::Port<u8> = x86_64::instructions::port::Port::new(0x3f8);
        for b in b"hello from pavise\n" { unsafe { port.write(*b) } }
        loop { x86_64::instructions::hlt() }
    }
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
}
#[cfg(not(target_os = "none"))]
fn main() {}
