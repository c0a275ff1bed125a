//! The host side of Pavise: builds the hypervisor and its guests, reads machine files, makes disk images, runs QEMU.
//!
//! `./x` sets up the toolchain and then runs this crate's binary. The library half is what the test suites in `tests/`
//! are written on. From a machine file to a running machine:
//!
//! 1. [`machine`]: parses and checks the file, and reports every mistake in it;
//! 2. [`build`]: compiles hypervisor and guests for bare metal;
//! 3. [`kernel`], [`debian`], [`initramfs`]: guest kernels and RAM disks that others made, or that are made of them;
//! 4. [`archive`]: packs kernels, RAM disks and settings into the boot archive ([`boot_archive`]);
//! 5. [`image`]: makes a disk image of hypervisor and archive;
//! 6. [`qemu`]: boots the image, for a person or under a test's control ([`session`]). [`bochs`] boots it on other models of
//!    CPUs, and [`xen`] the same guests on Xen.
#![forbid(unsafe_code)]

pub mod archive;
pub mod bochs;
pub mod build;
pub mod commands;
pub mod debian;
pub mod disk;
pub mod image;
pub mod initramfs;
pub mod kernel;
pub mod machine;
pub mod paths;
pub mod qemu;
pub mod session;
pub mod step;
pub mod symbols;
pub mod xen;
