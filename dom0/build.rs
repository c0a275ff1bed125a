//! Links the bare-metal binary as a guest kernel; does nothing for the host.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=../guest-kernel/guest.ld");
    let target_os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target_os == "none" {
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-T{folder}/../guest-kernel/guest.ld");
    }
}
