//! The page that a domain and the hypervisor share: pending events, time, per-vCPU state. Header: `xen.h`.
//!
//! Both sides change it at any time. The guest may write all of it, so the hypervisor never trusts what it reads here;
//! code that touches the live page uses atomic accesses at these offsets, not references to these structs.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// vCPUs whose [`VcpuInfo`] is in [`SharedInfo`]; others register a place of their own.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;

bitflags! {
    /// In [`VcpuTimeInfo::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TimeFlags: u8 {
        /// Readings on different CPUs compare exactly.
        const TSC_STABLE = 1 << 0;
        /// The guest was stopped from outside.
        const GUEST_STOPPED = 1 << 1;
    }
}

/// How to turn a TSC reading into system time: `struct vcpu_time_info`.
///
/// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)` nanoseconds since the hypervisor
/// started; a negative shift goes right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuTimeInfo {
    /// Odd while the record is being written; changes with each update.
    pub version: u32,
    /// Padding.
    pub _pad0: u32,
    /// The TSC at the time of the update.
    pub tsc_timestamp: u64,
    /// System time at the update, in nanoseconds.
    pub system_time: u64,
    /// Nanoseconds per shifted TSC tick, as a 32-bit fraction. Linux divides by it: never 0.
    pub tsc_to_system_mul: u32,
    /// Shift of the TSC difference.
    pub tsc_shift: i8,
    /// [`TimeFlags`].
    pub flags: u8,
    /// Padding.
    pub _pad1: [u8; 2],
}
layout!(VcpuTimeInfo, 32, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24, tsc_shift @ 28, flags @ 29);

/// The x86 part of [`VcpuInfo`]: `struct arch_vcpu_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArchVcpuInfo {
    /// The address of the last page fault.
    pub cr2: u64,
    /// Padding.
    pub _pad: u64,
}
layout!(ArchVcpuInfo, 16);

/// One vCPU's part of the shared page: `struct vcpu_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuInfo {
    /// Not 0: some event is pending for this vCPU.
    pub evtchn_upcall_pending: u8,
    /// Not 0: don't deliver upcalls.
    pub evtchn_upcall_mask: u8,
    /// Padding.
    pub _pad: [u8; 6],
    /// Which words of [`SharedInfo::evtchn_pending`] have pending events for this vCPU.
    pub evtchn_pending_sel: u64,
    /// x86 state.
    pub arch: ArchVcpuInfo,
    /// Time.
    pub time: VcpuTimeInfo,
}
layout!(VcpuInfo, 64, evtchn_upcall_mask @ 1, evtchn_pending_sel @ 8, arch @ 0x10, time @ 0x20);

/// The x86 part of [`SharedInfo`]: `struct arch_shared_info`. The guest fills in all but `nmi_reason`, for tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ArchSharedInfo {
    /// Entries in the physical-to-machine table.
    pub max_pfn: u64,
    /// Frame of the list of frames of the list of frames of that table.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Why the last NMI came.
    pub nmi_reason: u64,
    /// Root of the address space in which `p2m_vaddr` is valid; 0 if the next two fields aren't.
    pub p2m_cr3: u64,
    /// Guest address of the physical-to-machine table.
    pub p2m_vaddr: u64,
    /// Odd while the table's mapping changes.
    pub p2m_generation: u64,
}
layout!(ArchSharedInfo, 48);

/// The shared page: `struct shared_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SharedInfo {
    /// The first vCPUs' records.
    pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
    /// A bit for each port: an event is pending. (With FIFO event channels, unused.)
    pub evtchn_pending: [u64; 64],
    /// A bit for each port: don't raise an upcall.
    pub evtchn_mask: [u64; 64],
    /// Odd while the wall clock is being written.
    pub wc_version: u32,
    /// UTC at system time 0, in seconds since 1970: the low 32 bits.
    pub wc_sec: u32,
    /// UTC at system time 0: nanoseconds.
    pub wc_nsec: u32,
    /// The high 32 bits of the seconds.
    pub wc_sec_hi: u32,
    /// x86 state.
    pub arch: ArchSharedInfo,
}
layout!(
    SharedInfo, 3136,
    evtchn_pending @ 0x800, evtchn_mask @ 0xa00, wc_version @ 0xc00, wc_sec_hi @ 0xc0c, arch @ 0xc10,
);
