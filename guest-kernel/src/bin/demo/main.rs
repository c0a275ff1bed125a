//! The demo guest: says who and where it is, then answers commands typed at the console.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(any(target_os = "none", test))]
mod command;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod shell;
#[cfg(target_os = "none")]
mod tasks;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the demo is a kernel: build it for x86_64-hv.json");
}
