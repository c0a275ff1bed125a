//! The bench guest: what operations cost, in instructions. The same file boots on Pavise and on Xen.
//!
//! It needs a machine whose TSC counts executed instructions, which QEMU's does under `-icount shift=0`, and prints a
//! line for each row:
//!
//! ```text
//! bench: GROUP NAME INSTRUCTIONS OPERATIONS
//! bench: GROUP NAME refused ERROR
//! ```
//!
//! Options on the command line: `group=` and `row=` choose rows; `operations=`, `batches=` and `tables=` say how much is
//! done for each ([`meter::Effort`]); `wait=1` waits for a key first, so that the host can start watching; with `time=1` the
//! TSC may count time instead. With `serves=` the guest measures nothing, but is the `partner=` of one that does
//! ([`partner`]); with `reflects=` it is at the other end of the network ([`reflector`]). With `idle=` it does nothing at all,
//! or next to nothing every so many milliseconds.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod bell;
#[cfg(target_os = "none")]
mod frames;
#[cfg(target_os = "none")]
mod marks;
#[cfg(target_os = "none")]
mod meter;
#[cfg(target_os = "none")]
mod partner;
#[cfg(target_os = "none")]
mod reflector;
#[cfg(target_os = "none")]
mod rows;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod scratch;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the bench guest is a kernel: build it for x86_64-hv.json");
}
