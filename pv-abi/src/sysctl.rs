//! `sysctl`: the machine and the hypervisor as a whole, for the control domain. Header: `sysctl.h`.
//!
//! A subset. The call takes one [`Sysctl`]; the payload is one of the structs here, written over the start of
//! [`Sysctl::u`]. Each call carries [`XEN_SYSCTL_INTERFACE_VERSION`].

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version these structs belong to.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

/// Reads the hypervisor's log: [`ReadConsole`].
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;
/// Describes the machine: [`PhysInfo`].
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// Tells the scheduler: [`SchedId`].
pub const XEN_SYSCTL_SCHED_ID: u32 = 4;
/// Lists domains: [`GetDomainInfoList`].
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// Lists the CPUs' idle time: [`GetCpuInfo`].
pub const XEN_SYSCTL_GETCPUINFO: u32 = 8;
/// Tells how much memory is free: [`AvailHeap`].
pub const XEN_SYSCTL_AVAILHEAP: u32 = 9;
/// Lists the CPUs' places in the machine: [`CpuTopoInfo`].
pub const XEN_SYSCTL_CPUTOPOINFO: u32 = 16;
/// Sets or gets the scheduler's own parameters: [`SysctlSchedulerOp`].
pub const XEN_SYSCTL_SCHEDULER_OP: u32 = 19;

/// The argument: `struct xen_sysctl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Sysctl {
    /// An `XEN_SYSCTL_*` command.
    pub cmd: u32,
    /// [`XEN_SYSCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The payload, as words for the alignment.
    pub u: [u64; 16],
}
layout!(Sysctl, 136, u @ 8);

/// `struct xen_sysctl_readconsole`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ReadConsole {
    /// In: 1 to empty the log.
    pub clear: u8,
    /// In: 1 to start at `index`.
    pub incremental: u8,
    /// Padding.
    pub _pad0: u8,
    /// Padding.
    pub _pad1: u8,
    /// In: where to start. Out: where to go on.
    pub index: u32,
    /// In: guest address of the buffer.
    pub buffer: u64,
    /// In: its size. Out: bytes written.
    pub count: u32,
    /// Padding.
    pub _pad2: u32,
}
layout!(ReadConsole, 24);

bitflags! {
    /// In [`PhysInfo::capabilities`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PhysCaps: u32 {
        /// Fully virtualized guests.
        const HVM = 1 << 0;
        /// Paravirtualized guests.
        const PV = 1 << 1;
        /// Devices passed through.
        const DIRECTIO = 1 << 2;
        /// Nested page tables.
        const HAP = 1 << 3;
        /// Shadow page tables.
        const SHADOW = 1 << 4;
        /// Page tables shared with the I/O MMU.
        const IOMMU_HAP_PT_SHARE = 1 << 5;
        /// Processor tracing.
        const VMTRACE = 1 << 6;
        /// Performance counters.
        const VPMU = 1 << 7;
        /// Version 1 grant tables.
        const GNTTAB_V1 = 1 << 8;
        /// Version 2 grant tables.
        const GNTTAB_V2 = 1 << 9;
    }
}

/// `struct xen_sysctl_physinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysInfo {
    /// Threads in a core.
    pub threads_per_core: u32,
    /// Cores in a socket.
    pub cores_per_socket: u32,
    /// CPUs that are up.
    pub nr_cpus: u32,
    /// The highest CPU number there can be.
    pub max_cpu_id: u32,
    /// NUMA nodes that are up.
    pub nr_nodes: u32,
    /// The highest node number there can be.
    pub max_node_id: u32,
    /// The TSC's frequency.
    pub cpu_khz: u32,
    /// [`PhysCaps`].
    pub capabilities: u32,
    /// The same for the architecture; none on x86.
    pub arch_capabilities: u32,
    /// Padding.
    pub _pad: u32,
    /// Frames in the machine.
    pub total_pages: u64,
    /// Frames free.
    pub free_pages: u64,
    /// Frames to be cleared before they are free.
    pub scrub_pages: u64,
    /// Frames claimed for domains.
    pub outstanding_pages: u64,
    /// The highest frame number.
    pub max_mfn: u64,
    /// The boot CPU's feature words.
    pub hw_cap: [u32; 8],
}
layout!(PhysInfo, 112, total_pages @ 40, hw_cap @ 80);

/// `struct xen_sysctl_sched_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedId {
    /// Out: an [`XEN_SCHEDULER_*`](crate::domctl::XEN_SCHEDULER_CREDIT).
    pub sched_id: u32,
}
layout!(SchedId, 4);

/// `struct xen_sysctl_getdomaininfolist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetDomainInfoList {
    /// In: the domain to start with.
    pub first_domain: u16,
    /// Padding.
    pub _pad0: u16,
    /// In: records the buffer can hold.
    pub max_domains: u32,
    /// In: guest address of an array of [`GetDomainInfo`](crate::domctl::GetDomainInfo).
    pub buffer: u64,
    /// Out: records written.
    pub num_domains: u32,
    /// Padding.
    pub _pad1: u32,
}
layout!(GetDomainInfoList, 24);

/// One CPU: `struct xen_sysctl_cpuinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuInfo {
    /// Idle time in nanoseconds.
    pub idletime: u64,
}
layout!(CpuInfo, 8);

/// `struct xen_sysctl_getcpuinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetCpuInfo {
    /// In: records the buffer can hold.
    pub max_cpus: u32,
    /// Padding.
    pub _pad0: u32,
    /// In: guest address of an array of [`CpuInfo`].
    pub info: u64,
    /// Out: records written.
    pub nr_cpus: u32,
    /// Padding.
    pub _pad1: u32,
}
layout!(GetCpuInfo, 24);

/// `struct xen_sysctl_availheap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AvailHeap {
    /// In: the least width of an address; 0 for any.
    pub min_bitwidth: u32,
    /// In: the greatest width of an address; 0 for any.
    pub max_bitwidth: u32,
    /// In: NUMA node; -1 for all.
    pub node: i32,
    /// Padding.
    pub _pad: u32,
    /// Out: bytes free.
    pub avail_bytes: u64,
}
layout!(AvailHeap, 24);

/// One CPU's place: `struct xen_sysctl_cputopo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuTopo {
    /// Core.
    pub core: u32,
    /// Socket.
    pub socket: u32,
    /// NUMA node.
    pub node: u32,
}
layout!(CpuTopo, 12);

/// `struct xen_sysctl_cputopoinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuTopoInfo {
    /// In: records the buffer can hold. Out: records there are.
    pub num_cpus: u32,
    /// Padding.
    pub _pad: u32,
    /// In: guest address of an array of [`CpuTopo`].
    pub cputopo: u64,
}
layout!(CpuTopoInfo, 16);

/// In [`SysctlSchedulerOp::cmd`]: set the parameters.
pub const XEN_SYSCTL_SCHEDOP_PUTINFO: u32 = 0;
/// In [`SysctlSchedulerOp::cmd`]: get the parameters.
pub const XEN_SYSCTL_SCHEDOP_GETINFO: u32 = 1;

/// The credit scheduler's parameters: `struct xen_sysctl_credit_schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreditSchedule {
    /// Time slice in milliseconds.
    pub tslice_ms: u32,
    /// The least time a vCPU runs, in microseconds.
    pub ratelimit_us: u32,
    /// How long a vCPU counts as cache-hot, in microseconds.
    pub vcpu_migr_delay_us: u32,
}
layout!(CreditSchedule, 12);

/// `struct xen_sysctl_scheduler_op`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SysctlSchedulerOp {
    /// CPU pool.
    pub cpupool_id: u32,
    /// An [`XEN_SCHEDULER_*`](crate::domctl::XEN_SCHEDULER_CREDIT).
    pub sched_id: u32,
    /// An `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad: u32,
    /// The parameters: `u.sched_credit` of the header.
    pub credit: CreditSchedule,
    /// The rest of the header's union.
    pub _rest: u32,
}
layout!(SysctlSchedulerOp, 32, credit @ 16);
