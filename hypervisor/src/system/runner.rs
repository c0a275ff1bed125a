//! A vCPU that can run, with what the CPU holds for it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use pv_abi::event::VIRQ_TIMER;

use super::Domain;
use crate::arch::vcpu::MachineState;
use crate::domain::context::CpuContext;
use crate::domain::link::VcpuLink;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::ParkedVcpu;
use crate::sched::Account;

/// A vCPU, what the CPU holds for it, and its domain.
pub struct Runner {
    pub vcpu: Vcpu,
    pub state: MachineState,
    pub account: Account,
    pub domain: Arc<Domain>,
}

impl Runner {
    /// A vCPU that has not run yet.
    pub fn new(vcpu: Vcpu, domain: Arc<Domain>) -> Runner {
        let account = Account::new(domain.share.clone(), domain.link(vcpu.id).affinity().clone());
        Runner { vcpu, state: MachineState::default(), account, domain }
    }

    /// What all CPUs share of the vCPU.
    #[inline]
    pub fn link(&self) -> &VcpuLink {
        self.domain.link(self.vcpu.id)
    }

    /// When its timers fire next, if that does anything.
    pub fn timer_deadline(&self) -> Option<u64> {
        self.vcpu.timers.deadline().filter(|_| self.domain.events.is_virq_bound(VIRQ_TIMER, self.vcpu.id))
    }
}

impl ParkedVcpu for Box<Runner> {
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    fn load(&mut self, cpu: &CpuContext) {
        self.state = MachineState::new(cpu);
    }

    fn save(&self) -> CpuContext {
        self.state.context()
    }
}
