//! Links the bare-metal binary with the hypervisor's own layout.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=hypervisor.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=--script={here}/hypervisor.ld");
        println!("cargo:rustc-link-arg-bins=--no-dynamic-linker");
    }
}
