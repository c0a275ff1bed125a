//! Numbers of frames, addresses, and numbers of domains, vCPUs and CPUs: each a type of its own.
//!
//! A [`GuestVa`] proves no more than that a guest may name it; access still goes through
//! [`GuestCopy`](crate::guest::GuestCopy).

use core::fmt;

pub use addresses::{
    GuestVa, HYPERVISOR_END, HYPERVISOR_START, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, is_canonical,
};

/// A domain's number, as in the ABI's `domid_t`. Domain 0 is the control domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct DomainId(pub u16);

impl DomainId {
    /// The hypervisor, as the owner of its own frames that the control domain may map. Xen ABI: `DOMID_XEN`.
    pub const HYPERVISOR: DomainId = DomainId(pv_abi::domid::DOMID_XEN);
}

/// A vCPU's number inside its domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct VcpuId(pub u32);

/// A physical CPU's number, dense from 0 (the boot CPU). Not the APIC id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}
