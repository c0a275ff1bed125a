//! Domains in the hands of the control domain, and vCPUs that don't run.

use core::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::{CPUS, Fake};
use crate::addr::{DomainId, VcpuId};
use crate::domain::context::CpuContext;
use crate::domain::vcpu::Vcpu;
use crate::event::Events;
use crate::grant::Grants;
use crate::hypercall::{DomainFacts, ParkedVcpu, Target};
use crate::mm::flush::CpuSet;
use crate::mm::operation::{Freed, Mmu, Space};
use crate::mm::perform::{Effects, FramesLock};
use crate::mm::tests::machine::Memory;
use crate::sched::Share;

/// A domain in the hands of the control domain.
pub struct FakeTarget {
    pub(super) id: DomainId,
    pub(super) facts: Rc<Cell<DomainFacts>>,
    pub(super) events: Arc<Events>,
    pub(super) grants: Arc<Grants>,
    pub(super) share: Arc<Share>,
}

impl FakeTarget {
    pub(super) fn change(&self, change: impl FnOnce(&mut DomainFacts)) {
        let mut facts = self.facts.get();
        change(&mut facts);
        self.facts.set(facts);
    }
}

impl Target for FakeTarget {
    fn id(&self) -> DomainId {
        self.id
    }

    fn facts(&self) -> DomainFacts {
        self.facts.get()
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }

    fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    fn share(&self) -> &Share {
        &self.share
    }

    fn pool(&self, _: VcpuId) -> CpuSet {
        CpuSet::first(CPUS as u32)
    }

    fn set_max_pages(&self, pages: u64) {
        self.change(|facts| facts.max_pages = pages);
    }

    fn set_handle(&self, handle: [u8; 16]) {
        self.change(|facts| facts.handle = handle);
    }
}

/// The platform as another domain's.
pub struct InNameOf<'b, 'a> {
    pub(super) fake: &'b mut Fake<'a>,
    caller: usize,
}

impl<'b, 'a> InNameOf<'b, 'a> {
    pub(super) fn new(fake: &'b mut Fake<'a>, domain: DomainId) -> InNameOf<'b, 'a> {
        let caller = core::mem::replace(&mut fake.domain, usize::from(domain.0));
        InNameOf { fake, caller }
    }
}

impl Drop for InNameOf<'_, '_> {
    fn drop(&mut self) {
        self.fake.domain = self.caller;
    }
}

impl Effects for InNameOf<'_, '_> {
    type Tables = Memory<true>;

    fn mmu(&self) -> &Mmu<'_, Memory<true>> {
        self.fake.mmu()
    }

    fn space(&self) -> Space<'_> {
        self.fake.space()
    }

    fn frames(&self) -> &dyn FramesLock {
        self.fake.frames()
    }

    fn retire(&mut self, freed: &mut Freed) {
        self.fake.retire(freed);
    }

    fn flush(&mut self, cpus: CpuSet) {
        self.fake.flush(cpus);
    }
}

/// A vCPU that may not run, and what its CPU is to hold.
pub struct FakeParked {
    pub vcpu: Vcpu,
    pub cpu: Option<CpuContext>,
}

impl ParkedVcpu for FakeParked {
    fn vcpu(&mut self) -> &mut Vcpu {
        &mut self.vcpu
    }

    fn load(&mut self, cpu: &CpuContext) {
        self.cpu = Some(*cpu);
    }

    fn save(&self) -> CpuContext {
        self.cpu.unwrap_or(CpuContext { selectors: [0; 4], bases: [0; 3], fpu: None })
    }
}
