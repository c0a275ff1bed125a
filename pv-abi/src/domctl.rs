//! `domctl`: creation and control of domains by the control domain. Header: `domctl.h`.
//!
//! A subset: what starting, watching and stopping PV domains needs. The call takes one [`Domctl`]; the payload is one
//! of the structs here, written over the start of [`Domctl::u`]. Unlike the guest interface this one changes from
//! release to release, so each call carries [`XEN_DOMCTL_INTERFACE_VERSION`].

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domid::DOMAIN_HANDLE_LEN;

/// The version these structs belong to.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// Creates a domain: [`CreateDomain`]. Out: [`Domctl::domain`].
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Ends a domain. No payload.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Stops a domain's vCPUs for now. No payload.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Ends a pause; a new domain is paused once. No payload.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// Tells a domain's state; with no such domain, that of the next one up: [`GetDomainInfo`].
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// Sets which CPUs a vCPU may use: [`VcpuAffinity`].
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// Sets how much memory a domain may have: [`MaxMem`].
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// Sets a vCPU's registers: [`VcpuContext`].
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// Gets a vCPU's registers: [`VcpuContext`].
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// Tells a vCPU's state: [`GetVcpuInfo`].
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// Sets how many vCPUs a domain has: [`MaxVcpus`].
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// Sets or gets scheduling parameters: [`SchedulerOp`].
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// Sets a domain's handle: [`SetDomainHandle`].
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// Gives or takes a physical interrupt: [`IrqPermission`].
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// Gives or takes I/O memory: [`IomemPermission`].
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// Gives or takes I/O ports: [`IoportPermission`].
pub const XEN_DOMCTL_IOPORT_PERMISSION: u32 = 21;
/// Fills a hypercall page: [`HypercallInit`].
pub const XEN_DOMCTL_HYPERCALL_INIT: u32 = 22;
/// Moves a domain's wall clock: [`SetTimeOffset`].
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// Gets which CPUs a vCPU may use: [`VcpuAffinity`].
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// Lets a domain that shut down run on. No payload.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;

/// The argument: `struct xen_domctl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Domctl {
    /// An `XEN_DOMCTL_*` command.
    pub cmd: u32,
    /// [`XEN_DOMCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The domain it is about.
    pub domain: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// The payload, as words for the alignment.
    pub u: [u64; 16],
}
layout!(Domctl, 144, domain @ 8, u @ 16);

bitflags! {
    /// In [`CreateDomain::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CreateDomainFlags: u32 {
        /// Fully virtualized.
        const HVM = 1 << 0;
        /// With nested page tables.
        const HAP = 1 << 1;
        /// Check memory across a machine's sleep.
        const S3_INTEGRITY = 1 << 2;
        /// Shadow page tables are never out of step.
        const OOS_OFF = 1 << 3;
        /// The domain is XenStore's host.
        const XS_DOMAIN = 1 << 4;
        /// With an I/O MMU.
        const IOMMU = 1 << 5;
        /// With nested virtualization.
        const NESTED_VIRT = 1 << 6;
        /// With performance counters.
        const VPMU = 1 << 7;
    }

    /// In [`GetDomainInfo::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DomainInfoFlags: u32 {
        /// The domain is being taken down.
        const DYING = 1 << 0;
        /// Fully virtualized.
        const HVM_GUEST = 1 << 1;
        /// The domain has shut down; see [`XEN_DOMINF_SHUTDOWNSHIFT`].
        const SHUTDOWN = 1 << 2;
        /// Paused.
        const PAUSED = 1 << 3;
        /// No vCPU can run: all sleep.
        const BLOCKED = 1 << 4;
        /// Some vCPU is on a CPU.
        const RUNNING = 1 << 5;
        /// A debugger is attached.
        const DEBUGGED = 1 << 6;
        /// The domain is XenStore's host.
        const XS_DOMAIN = 1 << 7;
        /// With nested page tables.
        const HAP = 1 << 8;
        /// The shutdown reason.
        const SHUTDOWN_REASON = XEN_DOMINF_SHUTDOWNMASK << XEN_DOMINF_SHUTDOWNSHIFT;
    }

    /// In [`VcpuAffinity::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct VcpuAffinityFlags: u32 {
        /// Use [`VcpuAffinity::cpumap_hard`].
        const HARD = 1 << 0;
        /// Use [`VcpuAffinity::cpumap_soft`].
        const SOFT = 1 << 1;
        /// Undo a temporary pin.
        const FORCE = 1 << 2;
    }
}

/// In [`GetDomainInfo::flags`]: where the shutdown reason is.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// In [`GetDomainInfo::flags`]: the shutdown reason's bits, after the shift.
pub const XEN_DOMINF_SHUTDOWNMASK: u32 = 255;
/// In [`GetDomainInfo::max_vcpu_id`]: the domain has no vCPU.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = !0;

/// A bitmap in guest memory: `struct xenctl_bitmap`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenctlBitmap {
    /// Guest address of the bytes.
    pub bitmap: u64,
    /// Bits in it.
    pub nr_bits: u32,
    /// Padding.
    pub _pad: u32,
}
layout!(XenctlBitmap, 16);

/// x86 settings: `struct xen_arch_domainconfig`. Both are 0 for PV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArchDomainConfig {
    /// Devices to emulate.
    pub emulation_flags: u32,
    /// Others.
    pub misc_flags: u32,
}
layout!(ArchDomainConfig, 8);

/// `struct xen_domctl_createdomain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CreateDomain {
    /// Security label.
    pub ssidref: u32,
    /// The handle.
    pub handle: [u8; DOMAIN_HANDLE_LEN],
    /// [`CreateDomainFlags`].
    pub flags: u32,
    /// I/O MMU options.
    pub iommu_opts: u32,
    /// vCPUs it can have.
    pub max_vcpus: u32,
    /// Its highest port.
    pub max_evtchn_port: u32,
    /// Frames of grant table it can have; negative for the default.
    pub max_grant_frames: i32,
    /// Frames of grant mappings it can have; negative for the default.
    pub max_maptrack_frames: i32,
    /// The highest grant-table version, in the low 4 bits.
    pub grant_opts: u32,
    /// Bytes of trace buffer for each vCPU.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// x86 settings.
    pub arch: ArchDomainConfig,
}
layout!(CreateDomain, 64, flags @ 20, arch @ 56);

/// `struct xen_domctl_getdomaininfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetDomainInfo {
    /// The domain.
    pub domain: u16,
    /// Padding.
    pub _pad1: u16,
    /// [`DomainInfoFlags`].
    pub flags: u32,
    /// Frames it has.
    pub tot_pages: u64,
    /// Frames it may have.
    pub max_pages: u64,
    /// Frames claimed for it.
    pub outstanding_pages: u64,
    /// Frames it shares copy-on-write.
    pub shr_pages: u64,
    /// Frames paged out.
    pub paged_pages: u64,
    /// Machine frame number of its shared-info page.
    pub shared_info_frame: u64,
    /// CPU time used, in nanoseconds.
    pub cpu_time: u64,
    /// vCPUs that are up.
    pub nr_online_vcpus: u32,
    /// The highest vCPU number, or [`XEN_INVALID_MAX_VCPU_ID`].
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// The handle.
    pub handle: [u8; DOMAIN_HANDLE_LEN],
    /// CPU pool.
    pub cpupool: u32,
    /// Width of a guest-physical address.
    pub gpaddr_bits: u8,
    /// Padding.
    pub _pad2: [u8; 7],
    /// x86 settings.
    pub arch_config: ArchDomainConfig,
}
layout!(GetDomainInfo, 112, flags @ 4, tot_pages @ 8, nr_online_vcpus @ 64, handle @ 76, arch_config @ 104);

/// `struct xen_domctl_max_mem`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MaxMem {
    /// The limit, in KiB.
    pub max_memkb: u64,
}
layout!(MaxMem, 8);

/// `struct xen_domctl_max_vcpus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MaxVcpus {
    /// How many.
    pub max: u32,
}
layout!(MaxVcpus, 4);

/// `struct xen_domctl_vcpucontext`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuContext {
    /// The vCPU.
    pub vcpu: u32,
    /// Padding.
    pub _pad: u32,
    /// Guest address of a [`VcpuGuestContext`](crate::vcpu::VcpuGuestContext).
    pub ctxt: u64,
}
layout!(VcpuContext, 16);

/// `struct xen_domctl_getvcpuinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GetVcpuInfo {
    /// In: the vCPU.
    pub vcpu: u32,
    /// Out: 1 if it is up.
    pub online: u8,
    /// Out: 1 if it sleeps.
    pub blocked: u8,
    /// Out: 1 if it is on a CPU.
    pub running: u8,
    /// Padding.
    pub _pad0: u8,
    /// Out: CPU time used, in nanoseconds.
    pub cpu_time: u64,
    /// Out: the CPU it is on, or was last.
    pub cpu: u32,
    /// Padding.
    pub _pad1: u32,
}
layout!(GetVcpuInfo, 24);

/// `struct xen_domctl_vcpuaffinity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuAffinity {
    /// The vCPU.
    pub vcpu: u32,
    /// [`VcpuAffinityFlags`].
    pub flags: u32,
    /// CPUs it may use. A set returns the outcome here.
    pub cpumap_hard: XenctlBitmap,
    /// CPUs it prefers. A set returns the outcome here.
    pub cpumap_soft: XenctlBitmap,
}
layout!(VcpuAffinity, 40);

/// The credit scheduler.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// The second credit scheduler.
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// In [`SchedulerOp::cmd`]: set a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// In [`SchedulerOp::cmd`]: get a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;

/// A domain's share: `struct xen_domctl_sched_credit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedCredit {
    /// Share of the CPUs, relative to the other domains' (256 is the default).
    pub weight: u16,
    /// Limit, in percent of one CPU; 0 means none.
    pub cap: u16,
}
layout!(SchedCredit, 4);

/// `struct xen_domctl_scheduler_op`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SchedulerOp {
    /// An `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// An `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// The parameters: `u.credit` of the header.
    pub credit: SchedCredit,
    /// The rest of the header's union.
    pub _rest: [u32; 3],
}
layout!(SchedulerOp, 24, credit @ 8);

/// `struct xen_domctl_setdomainhandle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetDomainHandle {
    /// The handle.
    pub handle: [u8; DOMAIN_HANDLE_LEN],
}
layout!(SetDomainHandle, 16);

/// `struct xen_domctl_irq_permission`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IrqPermission {
    /// The caller's number of the interrupt.
    pub pirq: u32,
    /// 1 to give, 0 to take.
    pub allow_access: u8,
    /// Padding.
    pub _pad: [u8; 3],
}
layout!(IrqPermission, 8);

/// `struct xen_domctl_iomem_permission`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IomemPermission {
    /// The first machine frame.
    pub first_mfn: u64,
    /// Frames.
    pub nr_mfns: u64,
    /// 1 to give, 0 to take.
    pub allow_access: u8,
    /// Padding.
    pub _pad: [u8; 7],
}
layout!(IomemPermission, 24);

/// `struct xen_domctl_ioport_permission`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IoportPermission {
    /// The first port.
    pub first_port: u32,
    /// Ports.
    pub nr_ports: u32,
    /// 1 to give, 0 to take.
    pub allow_access: u8,
    /// Padding.
    pub _pad: [u8; 3],
}
layout!(IoportPermission, 12);

/// `struct xen_domctl_hypercall_init`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HypercallInit {
    /// Frame number of the page.
    pub gmfn: u64,
}
layout!(HypercallInit, 8);

/// `struct xen_domctl_settimeoffset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetTimeOffset {
    /// Seconds to add to UTC.
    pub time_offset_seconds: i64,
}
layout!(SetTimeOffset, 8);
