//! Domains under the control domain's control: created, paused, inspected and destroyed through `domctl`.
//!
//! Such a domain is *supervised*: after a shutdown or crash it is kept, stopped, until the control domain destroys it. When
//! the control domain ends, all domains that it created end too.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;

use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_DOM_EXC;

use super::create::{self, New, Sharing};
use super::remove::forget_if_gone;
use super::runner::Runner;
use super::wake::Kicker;
use super::{Domain, end, flush, machine, park, queues, stock, wake};
use crate::addr::{DomainId, VcpuId};
use crate::arch::time;
use crate::domain::End;
use crate::domain::link::{Activity, VcpuLink};
use crate::event::Events;
use crate::grant::Grants;
use crate::hypercall::{DomainFacts, MachineFacts, NewDomain, Target};
use crate::mm::flush::CpuSet;
use crate::sched::Share;

/// Most domains there can be. Each takes some KiB of the heap, and lists of all of them are made without a pause.
const MAX_DOMAINS: usize = 1000;

/// Most pauses of one domain by the control domain, as in Xen.
const MAX_PAUSES: u32 = 255;

/// A CPU creates a domain. One at a time: so what is left for the heap can't go elsewhere meanwhile.
static CREATING: AtomicBool = AtomicBool::new(false);

/// Where the search for a free number begins. Numbers come back late, so that one that is remembered seldom names another
/// domain.
static NEXT: AtomicU16 = AtomicU16::new(1);

impl Target for Arc<Domain> {
    fn id(&self) -> DomainId {
        self.id
    }

    fn facts(&self) -> DomainFacts {
        DomainFacts {
            max_pages: self.max_pages.load(Ordering::Relaxed),
            shared_info: self.shared_mfn,
            handle: *self.handle.lock(),
            dying: self.is_ending(),
            shutdown: self.shutdown.get().copied(),
            paused: self.pauses.load(Ordering::Relaxed) > 0,
        }
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

    fn pool(&self, vcpu: VcpuId) -> CpuSet {
        if self.dedicated { self.cpus_of(vcpu) } else { create::shared_cpus() }
    }

    fn set_max_pages(&self, pages: u64) {
        self.max_pages.store(pages, Ordering::Relaxed);
    }

    fn set_handle(&self, handle: [u8; 16]) {
        *self.handle.lock() = handle;
    }
}

/// The machine as the control domain is told.
pub fn facts() -> MachineFacts {
    let (free_pages, total_pages) = {
        let allocator = machine().allocator.lock();
        (allocator.free_frames(), allocator.total_frames())
    };
    MachineFacts {
        cpus: machine().running.load(Ordering::Relaxed),
        khz: u32::try_from(time::clock().khz()).unwrap_or(u32::MAX),
        total_pages,
        free_pages,
    }
}

/// The domain of this number.
pub fn find(id: DomainId) -> Option<Arc<Domain>> {
    machine().domains.lock().iter().find(|domain| domain.id == id).cloned()
}

/// The domain with the least number from this one up.
pub fn find_from(id: DomainId) -> Option<Arc<Domain>> {
    machine().domains.lock().iter().filter(|domain| domain.id >= id).min_by_key(|domain| domain.id).cloned()
}

/// Creates a domain without memory.
pub fn create(new: &NewDomain) -> Result<DomainId, Errno> {
    while CREATING.swap(true, Ordering::Acquire) {
        flush::serve();
        spin_loop();
    }
    let created = create_alone(new);
    CREATING.store(false, Ordering::Release);
    created
}

fn create_alone(new: &NewDomain) -> Result<DomainId, Errno> {
    let id = match new.id {
        Some(id) if find(id).is_some() => return Err(Errno::EEXIST),
        Some(id) => id,
        None => free_id().ok_or(Errno::ENOMEM)?,
    };
    // The heap fails by a panic; so it is made sure that it has no reason to.
    stock::refill();
    if stock::len() < stock::FULL / 2 || machine().domains.lock().len() >= MAX_DOMAINS {
        return Err(Errno::ENOMEM);
    }
    let new = New {
        id,
        name: format!("{id}"),
        max_pages: 0,
        vcpus: new.vcpus,
        handle: new.handle,
        privileged: false,
        supervised: true,
        grants: new.grants,
        sharing: Sharing::default(),
        max_ports: new.max_ports,
    };
    let domain = create::new_domain(new).ok_or(Errno::ENOMEM)?;
    domain.pauses.store(1, Ordering::Relaxed);
    domain.paused.store(1, Ordering::SeqCst);
    create::enlist(&domain);
    Ok(id)
}

/// A number that no domain has.
fn free_id() -> Option<DomainId> {
    let candidates = 1..DOMID_FIRST_RESERVED;
    let start = NEXT.load(Ordering::Relaxed);
    let found = (start..candidates.end).chain(candidates.start..start).map(DomainId).find(|&id| find(id).is_none())?;
    let next = found.0 + 1;
    NEXT.store(if candidates.contains(&next) { next } else { candidates.start }, Ordering::Relaxed);
    Some(found)
}

/// Pauses a domain once more and waits until its vCPUs are off their CPUs.
pub fn pause(domain: &Domain, attention: &mut bool) -> Result<(), Errno> {
    let more = |pauses: u32| (pauses < MAX_PAUSES).then_some(pauses + 1);
    domain.pauses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::EOVERFLOW)?;
    domain.paused.fetch_add(1, Ordering::SeqCst);
    domain.events.vcpus().iter().for_each(|link| wake::stop(link, attention));
    domain.events.vcpus().iter().for_each(wait_until_off);
    Ok(())
}

/// Ends one pause.
pub fn unpause(domain: &Domain) -> Result<(), Errno> {
    let less = |pauses: u32| pauses.checked_sub(1);
    domain.pauses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| Errno::EINVAL)?;
    go_on(domain);
    Ok(())
}

/// Removes one reason why the domain's vCPUs may not run.
fn go_on(domain: &Domain) {
    if domain.paused.fetch_sub(1, Ordering::SeqCst) == 1 {
        park::unpark(domain);
    }
}

/// Waits until a vCPU that was stopped is off its CPU. That one leaves when it is interrupted, or at the end of a bounded
/// piece of work in the hypervisor, in which it may wait for a flush by this CPU; it never waits like this, because nobody
/// stops the control domain.
fn wait_until_off(link: &VcpuLink) {
    while link.activity() == Activity::Running {
        flush::serve();
        spin_loop();
    }
}

/// Makes CPUs that run vCPUs of a domain look at what has changed about where and how long they may run. One that waits
/// at a CPU that it may not use any more moves when its turn comes there.
pub fn reschedule(domain: &Domain, attention: &mut bool) {
    domain.events.vcpus().iter().for_each(|link| wake::stop(link, attention));
}

/// Takes a vCPU off its CPU, or from wherever it waits. The domain is paused until it is given back.
pub fn take_vcpu(domain: &Domain, id: VcpuId, attention: &mut bool) -> Option<Box<Runner>> {
    let link = domain.events.vcpu(id)?;
    domain.paused.fetch_add(1, Ordering::SeqCst);
    wake::stop(link, attention);
    wait_until_off(link);
    let taken = domain.take_parked(id).or_else(|| queues::take_waiting(link));
    if taken.is_none() {
        go_on(domain);
    }
    taken
}

/// Gives it back.
pub fn give_vcpu(domain: &Domain, runner: Box<Runner>) {
    queues::settle(runner);
    go_on(domain);
}

/// A domain that has a supervisor shuts down: its vCPUs leave their CPUs and stay. False if it had done so already.
pub fn shut_down(domain: &Domain, end: End, attention: &mut bool) -> bool {
    let mut first = false;
    domain.shutdown.call_once(|| {
        first = true;
        end
    });
    if first {
        domain.paused.fetch_add(1, Ordering::SeqCst);
        domain.events.vcpus().iter().for_each(|link| wake::stop(link, attention));
        announce(attention);
    }
    first
}

/// Tells the control domain that a domain has shut down, owns nothing any more but what others refer to, or is gone: it looks
/// itself which one, and what.
pub fn announce(attention: &mut bool) {
    if let Some(control) = control_domain() {
        control.events.raise(VIRQ_DOM_EXC, VcpuId(0)).kick(&mut Kicker(attention));
    }
}

/// The control domain, if there is one.
pub fn control_domain() -> Option<Arc<Domain>> {
    machine().domains.lock().iter().find(|domain| domain.privileged).cloned()
}

/// Ends a domain for a call that asks until it is done. True when it owns nothing any more but what others refer to.
pub fn destroy(domain: &Arc<Domain>, attention: &mut bool) -> bool {
    if domain.dismantled.load(Ordering::SeqCst) {
        domain.awaited.store(false, Ordering::SeqCst);
        forget_if_gone(domain);
        announce(attention);
        return true;
    }
    domain.awaited.store(true, Ordering::SeqCst);
    kill(domain, attention);
    false
}

fn kill(domain: &Arc<Domain>, attention: &mut bool) {
    domain.end.call_once(|| End::Destroyed);
    end::reap(domain, attention);
}

/// The control domain has ended: so do all that it created, and nobody asks for those that have.
pub fn gone(attention: &mut bool) {
    let mut next = Some(DomainId(0));
    while let Some(domain) = next.and_then(find_from) {
        domain.awaited.store(false, Ordering::SeqCst);
        if domain.supervised {
            kill(&domain, attention);
        }
        forget_if_gone(&domain);
        next = domain.id.0.checked_add(1).map(DomainId);
    }
}
