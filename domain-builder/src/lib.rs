//! Start-of-day: turns a kernel's ELF file into a domain that is ready to run.
//!
//! Two have a use for it: the hypervisor, for the domains that the boot archive names, and the control domain, for all that
//! it creates. Either first checks the file ([`KernelImage::parse`]), then plans ([`Layout::plan`]), and only when both agree
//! gives the domain memory and builds it ([`build`]). Kernel files are untrusted: every refusal is a [`Refusal`], and no file
//! can make this crate panic.
//!
//! # The picture
//!
//! A domain numbers its frames from pfn 0. The first of them, up to `mapped`, are mapped one to one from VIRT_BASE:
//!
//! ```text
//! pfn 0 = VIRT_BASE                                                              4 MiB boundary = `mapped`
//! | free | kernel | ramdisk* | p2m* | start_info | store | console | page tables | stack | >= 512 KiB free |
//!
//! `mapped`                                                     nr_pages
//! | ramdisk** | p2m** | tables that map only the p2m** | free ... |
//!
//! *  only if the kernel lacks the note MOD_START_PFN (ramdisk) or INIT_P2M (p2m)
//! ** only if it has that note. The ramdisk is then not mapped at all, and the p2m is mapped at INIT_P2M.
//! ```
//!
//! Page tables come L4 first, then all L3, L2 and L1, and map themselves read-only; everything else is writable. There
//! are only 4 KiB mappings. The p2m is the physical-to-machine table, the machine frame number of each pfn.
//!
//! # Invariants
//!
//! * A frame has one use; all uses lie below `nr_pages`.
//! * No entry maps a page table writable.
//! * No mapping lies outside the guest's ranges of the address space.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod build;
mod elf;
mod extents;
pub mod hypercall_page;
mod image;
mod layout;
mod notes;
mod paging;
mod refusal;
mod start_info;
#[cfg(test)]
mod tests;

pub use build::{DomainMemory, Failure, RFLAGS, StartState, build};
pub use extents::Extents;
pub use image::{KernelImage, Segment};
pub use layout::{Layout, PfnRange};
pub use notes::KernelNotes;
pub use refusal::Refusal;
pub use start_info::Params;
