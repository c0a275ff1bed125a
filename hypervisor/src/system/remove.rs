//! What is left of ended domains, and its way back, step by step.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use log::{Level, error, log};

use super::memory::{self, Memory};
use super::runner::Runner;
use super::{Domain, console, control, flush, machine, one_less, park, stock};
use crate::arch::guest_frames::Tables;
use crate::domain::link::VcpuLink;
use crate::domain::vcpu::Vcpu;
use crate::event::Closing;
use crate::grant::Mapping;
use crate::mm::operation::Operation;
use crate::mm::pending::Pending;
use crate::mm::perform::Unfinished;

/// What is left of ended domains: their vCPUs first, each with the page tables it holds, then their frames.
pub struct Remains {
    #[expect(clippy::vec_box, reason = "a vCPU stays where it is until it is gone")]
    vcpus: Vec<Box<Runner>>,
    domains: Vec<Ended>,
}

/// A domain without vCPUs.
struct Ended {
    domain: Arc<Domain>,
    pending: Pending,
    next: Step,
}

/// What is to be done next with a domain without vCPUs.
#[derive(Clone, Copy)]
enum Step {
    /// Nobody is to deliver events to it any more, or to use more of what it grants; the frames that served that are let go.
    CutOff,
    /// It gives its memory back.
    TearDown,
    /// It gives back what others granted it, from this handle on: none of its page tables are left.
    ReleaseGrants(u32),
}

impl Ended {
    /// Does a bounded part of taking it apart. True when nothing is left.
    fn step(&mut self) -> bool {
        let Ended { domain, pending, next } = self;
        match *next {
            Step::CutOff if cut_off(domain, pending) => *next = Step::TearDown,
            Step::TearDown if tear_down(domain, pending) => {
                // Mappings that it had may be in TLBs yet, and granters are told that they are gone.
                flush::flush(domain.cpus.load());
                *next = Step::ReleaseGrants(0);
            }
            Step::ReleaseGrants(from) => match release_grants(domain, pending, from) {
                Some(handle) => *next = Step::ReleaseGrants(handle),
                None => return true,
            },
            Step::CutOff | Step::TearDown => {}
        }
        false
    }
}

impl Remains {
    /// Nothing.
    pub const fn new() -> Remains {
        Remains { vcpus: Vec::new(), domains: Vec::new() }
    }

    /// Is there nothing left?
    pub fn is_empty(&self) -> bool {
        self.vcpus.is_empty() && self.domains.is_empty()
    }

    /// Adds a vCPU of an ended domain. No CPU has its page tables or its descriptors loaded.
    pub fn add(&mut self, runner: Box<Runner>) {
        self.vcpus.push(runner);
    }

    /// Does a bounded part of what is to be done. `attention` is this CPU's own flag.
    pub fn step(&mut self, attention: &mut bool) {
        if let Some(mut runner) = self.vcpus.pop() {
            if !strip(&mut runner) {
                self.vcpus.push(runner);
            } else if runner.domain.live.fetch_sub(1, Ordering::AcqRel) == 1 {
                // The last one: nothing but other domains' mappings can reach the domain's memory any more.
                self.domains.push(Ended { domain: runner.domain, pending: Pending::new(), next: Step::CutOff });
            }
        } else if let Some(mut ended) = self.domains.pop() {
            if ended.step() {
                ended.domain.dismantled.store(true, Ordering::SeqCst);
                forget_if_gone(&ended.domain);
                control::announce(attention);
            } else {
                self.domains.push(ended);
            }
        }
    }
}

/// Gives everything back that a domain had which could not be created. All its vCPUs are parked.
pub fn discard(domain: &Domain) {
    release_hardware(domain);
    while let Some(mut runner) = park::take_any(domain) {
        while !strip(&mut runner) {}
    }
    let mut pending = Pending::new();
    while !cut_off(domain, &mut pending) {}
    while !tear_down(domain, &mut pending) {}
}

/// Drops what a vCPU holds: unfinished work, descriptor pages, page-table roots. True when there is nothing left.
fn strip(runner: &mut Runner) -> bool {
    let Runner { vcpu: Vcpu { pending, roots, gdt, ldt, .. }, domain, .. } = runner;
    while let Some(mfn) = gdt.pop().or_else(|| ldt.pages.iter_mut().find_map(Option::take)) {
        if !put(domain, pending, |op| op.put_descriptors(mfn)) {
            return false;
        }
    }
    done(Memory(domain).step(pending, |op, _| {
        op.give_up()?;
        op.drop_roots(roots)?;
        op.drain()
    }))
}

/// Takes the hardware from a domain that has it: before its memory goes back, which devices may be writing to.
fn release_hardware(domain: &Domain) {
    if let Some(hardware) = &domain.hardware {
        hardware.interrupts.release();
    }
}

/// Closes all event channels and the grant table, and lets the pages go that served them. True when that is done.
fn cut_off(domain: &Domain, pending: &mut Pending) -> bool {
    release_hardware(domain);
    if !domain.events.close_all(Closing::End, &mut { memory::STEP }) {
        return false;
    }
    while let Some(mfn) = domain.events.take_frame() {
        if !put(domain, pending, |op| op.put_writable(mfn)) {
            return false;
        }
    }
    while let Some(mfn) = domain.grants.close_frame() {
        put(domain, pending, |op| op.put_writable(mfn));
    }
    for mfn in domain.events.vcpus().iter().filter_map(VcpuLink::info_frame) {
        put(domain, pending, |op| op.put_writable(mfn));
    }
    true
}

/// Takes everything from a domain that has no vCPUs any more. True when there is nothing left.
fn tear_down(domain: &Domain, pending: &mut Pending) -> bool {
    done(Memory(domain).step(pending, |op, frames| frames.run(|frames| op.tear_down(frames))))
        && put(domain, pending, |op| op.put_writable(domain.shared_mfn))
}

/// Handles that one step gives back.
const HANDLES: usize = 64;

/// Gives back some of what others granted the domain, from handle `from` on. Says where to go on; `None` if nothing is left.
fn release_grants(domain: &Domain, pending: &mut Pending, mut from: u32) -> Option<u32> {
    for _ in 0..HANDLES {
        let (next, Mapping { granter, gref, mfn, uses, .. }) = domain.grants.end_handle(from)?;
        from = next;
        if uses.device {
            put(domain, pending, |op| op.put_granted(mfn, uses.writable));
        }
        granter.unpin(memory::mmu().memory, gref, uses);
    }
    Some(from)
}

/// Drops a reference that the domain's structures held. True when all that hung on it is gone too.
fn put(domain: &Domain, pending: &mut Pending, mut step: impl FnMut(&mut Operation<'_, Tables>)) -> bool {
    done(Memory(domain).step(pending, |op, _| {
        step(op);
        Ok(())
    }))
}

/// Whether a step is done. Nothing of this is ever refused.
fn done(step: Result<(), Unfinished>) -> bool {
    match step {
        Ok(()) => true,
        Err(Unfinished::Again) => false,
        Err(Unfinished::Refused(refused)) => {
            error!("taking an ended domain apart: {refused}");
            true
        }
    }
}

/// Takes an ended domain off the list if it owns nothing any more: the last of its frames may be one that another domain
/// mapped. Called by whoever changed something about that. True if this took it off.
pub fn forget_if_gone(domain: &Domain) -> bool {
    let is_gone = domain.dismantled.load(Ordering::SeqCst)
        && !domain.awaited.load(Ordering::SeqCst)
        && domain.frames.lock().is_empty();
    if !is_gone {
        return false;
    }
    let removed = {
        let mut domains = machine().domains.lock();
        let before = domains.len();
        domains.retain(|other| !core::ptr::eq(&**other, domain));
        before > domains.len()
    };
    // Another CPU may have been faster.
    if removed {
        forgotten(domain);
    }
    removed
}

fn forgotten(domain: &Domain) {
    let (free, total) = {
        let allocator = machine().allocator.lock();
        (allocator.free_frames(), allocator.total_frames() - stock::FULL as u64)
    };
    let level = if domain.supervised { Level::Debug } else { Level::Info };
    log!(level, "{}: removed; {} MiB of {} MiB free", domain.id, free >> 8, total >> 8);
    console::domain_gone(domain.id);
    one_less();
}
