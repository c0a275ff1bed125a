//! The control domain's kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use guest_kernel::{StartInfo, entry, println, time};

    entry!(main);

    fn main(_info: &'static StartInfo) -> ! {
        println!("dom0 runs.");
        loop {
            time::sleep(1_000_000_000);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("dom0 is a kernel: build it for x86_64-hv.json");
}
