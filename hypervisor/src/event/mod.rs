//! Event channels: ports, what they are bound to, and delivery to vCPUs (`event_channel.h`).
#![forbid(unsafe_code)]

use alloc::boxed::Box;

use crate::addr::{DomainId, VcpuId};
use crate::domain::link::VcpuLink;
use crate::domain::shared::SharedInfo;

/// Makes vCPUs look at what is new for them.
pub trait Kick {
    /// The vCPU has a new reason to look at its flags: wakes it if it sleeps and the reason is good enough
    /// ([`VcpuLink::has_reason_to_wake`]), interrupts its CPU if it runs on another one.
    ///
    /// Called with no lock of this room held.
    fn kick(&mut self, vcpu: &VcpuLink);
}

/// The event channels of a domain, and its vCPUs as their targets.
pub struct Events {
    /// The domain.
    pub domain: DomainId,
    /// The page it shares with the hypervisor.
    pub shared: &'static SharedInfo,
    vcpus: Box<[VcpuLink]>,
}

impl Events {
    /// No ports yet, and `vcpus` vCPUs that are down; at most 32.
    pub fn new(domain: DomainId, shared: &'static SharedInfo, vcpus: u32) -> Events {
        let links = (0..vcpus).zip(&shared.vcpus).map(|(id, info)| VcpuLink::new(domain, VcpuId(id), info));
        Events { domain, shared, vcpus: links.collect() }
    }

    /// Is this virtual interrupt of a vCPU bound to a port?
    pub fn is_virq_bound(&self, _vcpu: VcpuId, _virq: u32) -> bool {
        false
    }

    /// Raises a virtual interrupt of a vCPU.
    pub fn raise(&self, _virq: u32, _vcpu: VcpuId, _kick: &mut impl Kick) {}

    /// All vCPUs.
    pub fn vcpus(&self) -> &[VcpuLink] {
        &self.vcpus
    }

    /// The vCPU of this number.
    #[inline]
    pub fn vcpu(&self, id: VcpuId) -> Option<&VcpuLink> {
        self.vcpus.get(id.0 as usize)
    }
}
