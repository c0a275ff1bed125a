//! A small kernel that knows it is a guest: the library that Pavise's own PV guests are built on.
//!
//! A binary names its main function with [`entry!`] and is linked by `guest.ld` for the target `x86_64-hv.json`. It
//! then starts as a domain of any hypervisor that speaks the Xen PV ABI, real Xen included, with the trap table
//! registered and a heap. One vCPU runs it, and event upcalls are masked. Memory behind the builder's mapping, events,
//! more vCPUs and user mode are there for kernels that ask for them.
//!
//! | module | what |
//! |---|---|
//! | `start` | the ELF notes, the entry point, the start info |
//! | `hypercall` | the calls, raw and typed |
//! | `trap` | the trap table, handlers, expected traps |
//! | `probe` | single privileged instructions and memory accesses whose trap is a value |
//! | `ports` | I/O ports, for the domain that has the hardware |
//! | `console` | `print!` and keys, through a ring or `console_io`; the ring is pure |
//! | `paging` | page tables as numbers: entries, trees, free frames, regions; pure |
//! | `memory` | the heap, frames and their numbers, the kernel's pages, address spaces |
//! | `task` | programs in user mode |
//! | `ring` | request and response rings of the split drivers, both sides; pure |
//! | `record`, `shared` | the page shared with the hypervisor: as atomics, pure; and the live one |
//! | `event` | ports and their handlers, 2-level and FIFO delivery |
//! | `store` | XenStore: its messages and ring, requests, the domain's connection |
//! | `grant` | frames that the domain lets others use, and those of others that it maps; tables are pure |
//! | `block` | disks: the front end; requests are pure |
//! | `xenbus` | the two ends of a split device, and how they follow each other; pure |
//! | `vcpu`, `smp` | the domain's vCPUs; work for all of them |
//! | `thread` | threads on any number of vCPUs, and what they wait for; who runs next is pure |
//! | `sync` | locks whose waiters yield |
//! | `time`, `timer` | system time and sleep; the timers of a vCPU |
//! | `net` | packets: addresses, headers, checksums; pure |
//! | `control` | for the control domain: other domains, made and ended |
//! | `version` | what the hypervisor is |
//! | `exit`, `panic` | verdicts, shutdown; the panic handler |
//!
//! The modules declared above the `target_os = "none"` line are pure and tested on the host; the others exist
//! only in the bare-metal build.
#![no_std]
// `PanicInfo::can_unwind`.
#![cfg_attr(target_os = "none", feature(panic_can_unwind))]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod block;
pub mod clock;
pub mod cmdline;
pub mod console;
pub mod event;
pub mod grant;
pub mod line;
pub mod net;
pub mod paging;
pub mod record;
pub mod ring;
pub mod store;
pub mod task;
pub mod thread;
pub mod verdict;
pub mod xenbus;

#[cfg(target_os = "none")]
pub mod control;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod hypercall;
#[cfg(target_os = "none")]
pub mod memory;
#[cfg(target_os = "none")]
pub mod panic;
#[cfg(target_os = "none")]
pub mod ports;
#[cfg(target_os = "none")]
pub mod probe;
#[cfg(target_os = "none")]
pub mod shared;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod sync;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod timer;
#[cfg(target_os = "none")]
pub mod trap;
#[cfg(target_os = "none")]
pub mod vcpu;
#[cfg(target_os = "none")]
pub mod version;

#[cfg(target_os = "none")]
pub use pv_abi::start_info::StartInfo;
