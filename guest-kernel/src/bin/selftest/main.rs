//! The self-test: tells one story per boot, named by `story=NAME` on the command line, and prints its verdict. With
//! `start=key` it waits for a key first.
//!
//! A story tries one subject of the ABI, bad arguments included, and compares with what the ABI says. The same file
//! boots on Pavise and on Xen. Stories of the suite `crash` end with the domain killed: there the hypervisor's log is
//! the verdict, and a verdict line means that the domain survived.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod stories;
#[cfg(target_os = "none")]
mod table;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the self-test is a kernel: build it for x86_64-hv.json");
}
