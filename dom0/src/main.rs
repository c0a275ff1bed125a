//! The control domain's kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use dom0::service;
    use guest_kernel::{StartInfo, entry, println};

    entry!(main);

    fn main(_info: &'static StartInfo) -> ! {
        match service::services() {
            Ok(services) => {
                println!("dom0 runs.");
                service::run(&services)
            }
            Err(error) => panic!("this hypervisor has no events or no timers: {error:?}"),
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("dom0 is a kernel: build it for x86_64-hv.json");
}
