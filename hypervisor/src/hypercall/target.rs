//! Other domains, as the calls of the control domain reach them.
//!
//! Work on another domain's memory is done in the name of its first vCPU, which is taken off its CPU for that time: what is
//! left half done stays with that vCPU, and goes when the vCPU goes; and a domain of which somebody has a vCPU in hand is
//! not taken apart.

use alloc::sync::Arc;

use pv_abi::errno::Errno;

use super::{Call, Otherwise, ParkedVcpu, Platform};
use crate::addr::{DomainId, Mfn, VcpuId};
use crate::domain::End;
use crate::event::Events;
use crate::grant::{Grants, Limits};
use crate::mm::error::Stop;
use crate::mm::flush::CpuSet;
use crate::mm::operation::Operation;
use crate::mm::perform::{FramesLock, Unfinished, perform};
use crate::sched::Share;

/// A domain that exists.
pub trait Target {
    /// Its number.
    fn id(&self) -> DomainId;

    /// What there is to tell of it.
    fn facts(&self) -> DomainFacts;

    /// Its event channels, and its vCPUs as all CPUs see them.
    fn events(&self) -> &Arc<Events>;

    /// Its grants.
    fn grants(&self) -> &Arc<Grants>;

    /// Its part of the CPUs.
    fn share(&self) -> &Share;

    /// The CPUs that a vCPU could be allowed to use.
    fn pool(&self, vcpu: VcpuId) -> CpuSet;

    /// Sets how many frames it may have. What it has above that it keeps.
    fn set_max_pages(&self, pages: u64);

    /// Sets its handle.
    fn set_handle(&self, handle: [u8; 16]);
}

/// What there is to tell of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DomainFacts {
    /// Most frames it may have.
    pub max_pages: u64,
    /// The frame of its shared-info page.
    pub shared_info: Mfn,
    /// Its UUID-like handle.
    pub handle: [u8; 16],
    /// It is being taken apart.
    pub dying: bool,
    /// It has shut down, or crashed, and waits for the control domain.
    pub shutdown: Option<End>,
    /// The control domain paused it.
    pub paused: bool,
}

/// What is asked of a new domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewDomain {
    /// The number that it is to have, if any.
    pub id: Option<DomainId>,
    /// Its vCPUs, 1 to [`MAX_VCPUS`](crate::domain::MAX_VCPUS).
    pub vcpus: u32,
    /// Its handle.
    pub handle: [u8; 16],
    /// What it may have of grants.
    pub grants: Limits,
    /// Its ports have numbers below this.
    pub max_ports: u32,
}

/// What there is to tell of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineFacts {
    /// CPUs that run.
    pub cpus: u32,
    /// Frequency of the TSC in kHz.
    pub khz: u32,
    /// Frames of RAM that domains and the hypervisor's heap share.
    pub total_pages: u64,
    /// Those of them that are free.
    pub free_pages: u64,
}

/// Another domain with its first vCPU in hand. Goes back with [`Call::give_back`].
pub(super) struct Other<P: Platform> {
    pub target: P::Target,
    pub vcpu: P::Parked,
}

impl<P: Platform> Other<P> {
    /// Carries out a step of the memory rules for the domain.
    pub fn memory<T>(
        &mut self,
        platform: &mut P,
        budget: &mut u32,
        step: impl FnMut(&mut Operation<'_, P::Tables>, &dyn FramesLock) -> Result<T, Stop>,
    ) -> Result<T, Unfinished> {
        perform(&mut platform.memory_of(&self.target), &mut self.vcpu.vcpu().pending, budget, step)
    }
}

impl<P: Platform> Call<'_, P> {
    /// A domain over which the caller has privilege.
    ///
    /// # Errors
    /// `ESRCH` if there is none of this number, `EPERM` if the caller has no privilege.
    pub(super) fn target(&mut self, id: DomainId) -> Result<P::Target, Errno> {
        let target = self.platform.target(id).ok_or(Errno::ESRCH)?;
        if self.platform.is_privileged() { Ok(target) } else { Err(Errno::EPERM) }
    }

    /// Takes another domain's first vCPU, to work on the domain's memory.
    ///
    /// # Errors
    /// Those of [`Call::target`], and `ESRCH` for a domain that is being taken apart. Again, if the vCPU is on its way
    /// somewhere.
    pub(super) fn other(&mut self, id: DomainId) -> Result<Other<P>, Otherwise> {
        let target = self.target(id)?;
        if target.facts().dying {
            return Err(Errno::ESRCH.into());
        }
        match self.platform.take_vcpu(&target, VcpuId(0)) {
            Some(vcpu) => Ok(Other { target, vcpu }),
            None => Err(Otherwise::AGAIN),
        }
    }

    /// The end of work on another domain.
    pub(super) fn give_back(&mut self, other: Other<P>) {
        self.platform.give_vcpu(&other.target, other.vcpu);
    }
}
