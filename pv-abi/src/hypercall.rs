//! Hypercall numbers, the register convention, and multicalls. Header: `xen.h`.
//!
//! A 64-bit guest kernel executes `syscall` with the number in `rax` and up to five arguments in `rdi`, `rsi`, `rdx`,
//! `r10`, `r8`. The result comes back in `rax`: zero or positive, or a negative [`Errno`](crate::errno::Errno).
//! `rcx` and `r11` are destroyed, and the argument registers may be.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Registers the exception handlers.
pub const SET_TRAP_TABLE: u32 = 0;
/// Updates page-table entries: [`crate::mmu`].
pub const MMU_UPDATE: u32 = 1;
/// Installs the guest's part of the GDT.
pub const SET_GDT: u32 = 2;
/// Sets the stack on which the kernel is entered from user mode.
pub const STACK_SWITCH: u32 = 3;
/// Sets the event, failsafe and syscall callbacks at once; [`CALLBACK_OP`] replaced it.
pub const SET_CALLBACKS: u32 = 4;
/// Sets or clears the vCPU's `CR0.TS`.
pub const FPU_TASKSWITCH: u32 = 5;
/// The first form of [`SCHED_OP`].
pub const SCHED_OP_COMPAT: u32 = 6;
/// Control of the machine, by the control domain.
pub const PLATFORM_OP: u32 = 7;
/// Writes a debug register.
pub const SET_DEBUGREG: u32 = 8;
/// Reads a debug register.
pub const GET_DEBUGREG: u32 = 9;
/// Writes one segment descriptor.
pub const UPDATE_DESCRIPTOR: u32 = 10;
/// Memory reservation: [`crate::memory`].
pub const MEMORY_OP: u32 = 12;
/// Runs a list of hypercalls: [`MulticallEntry`].
pub const MULTICALL: u32 = 13;
/// Updates the page-table entry that maps one address.
pub const UPDATE_VA_MAPPING: u32 = 14;
/// Sets the vCPU's one-shot timer.
pub const SET_TIMER_OP: u32 = 15;
/// The first form of [`EVENT_CHANNEL_OP`].
pub const EVENT_CHANNEL_OP_COMPAT: u32 = 16;
/// Says what the hypervisor is: [`crate::version`].
pub const XEN_VERSION: u32 = 17;
/// The hypervisor's console: [`crate::console`].
pub const CONSOLE_IO: u32 = 18;
/// The first form of [`PHYSDEV_OP`].
pub const PHYSDEV_OP_COMPAT: u32 = 19;
/// Grants of memory between domains: [`crate::grant`].
pub const GRANT_TABLE_OP: u32 = 20;
/// Switches optional behaviour on and off: [`crate::trap`].
pub const VM_ASSIST: u32 = 21;
/// As [`UPDATE_VA_MAPPING`], to map another domain's frame.
pub const UPDATE_VA_MAPPING_OTHERDOMAIN: u32 = 22;
/// Returns from an exception: [`crate::trap::IretContext`].
pub const IRET: u32 = 23;
/// Control of vCPUs and their timers: [`crate::vcpu`].
pub const VCPU_OP: u32 = 24;
/// Sets a segment base: [`crate::trap`].
pub const SET_SEGMENT_BASE: u32 = 25;
/// Pins page tables, loads page-table bases, flushes TLBs: [`crate::mmu`].
pub const MMUEXT_OP: u32 = 26;
/// Security-module control.
pub const XSM_OP: u32 = 27;
/// NMI callbacks of the control domain.
pub const NMI_OP: u32 = 28;
/// Scheduling: [`crate::sched`].
pub const SCHED_OP: u32 = 29;
/// Registers callbacks: [`crate::trap`].
pub const CALLBACK_OP: u32 = 30;
/// Profiling.
pub const XENOPROF_OP: u32 = 31;
/// Event channels: [`crate::event`].
pub const EVENT_CHANNEL_OP: u32 = 32;
/// Physical interrupts, I/O ports, PCI: [`crate::physdev`].
pub const PHYSDEV_OP: u32 = 33;
/// Fully virtualized guests.
pub const HVM_OP: u32 = 34;
/// Control of the hypervisor as a whole: [`crate::sysctl`].
pub const SYSCTL: u32 = 35;
/// Control of domains: [`crate::domctl`].
pub const DOMCTL: u32 = 36;
/// Crash kernels.
pub const KEXEC_OP: u32 = 37;
/// Transcendent memory, which no longer exists.
pub const TMEM_OP: u32 = 38;
/// Messages between domains, carried by the hypervisor.
pub const ARGO_OP: u32 = 39;
/// Performance counters.
pub const XENPMU_OP: u32 = 40;
/// Device-model control.
pub const DM_OP: u32 = 41;
/// The hypervisor's parameter file system.
pub const HYPFS_OP: u32 = 42;
/// The first of eight numbers that belong to the architecture; on x86, machine checks.
pub const ARCH_0: u32 = 48;

/// One hypercall of a [`MULTICALL`] list: `struct multicall_entry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MulticallEntry {
    /// The hypercall's number.
    pub op: u64,
    /// Out: what the hypercall returned.
    pub result: u64,
    /// Its arguments, in register order.
    pub args: [u64; 6],
}
layout!(MulticallEntry, 64, result @ 8, args @ 16);
