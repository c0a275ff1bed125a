//! The end of a domain: the report, and its memory's way back.

use core::sync::atomic::Ordering;

use alloc::sync::Arc;
use alloc::vec::Vec;

use log::{error, info};

use super::runner::Runner;
use super::{Domain, all_stopped, console, machine};
use crate::addr::Mfn;
use crate::arch::guest_frames;
use crate::arch::vcpu::CurrentSpace;
use crate::domain::report::{Registers, Trace};
use crate::domain::{End, ShutdownReason};
use crate::guest::GuestRegisters;

/// log2 of the frames given back at a time; in between, interrupts and other vCPUs have their turn.
const STEP_ORDER: u8 = 9;

/// Says why a domain ends. Its address space is still loaded.
pub fn report(runner: &Runner, regs: &GuestRegisters, end: End) {
    let domain = &runner.domain;
    let (id, name, vcpu) = (domain.id, &domain.name, runner.vcpu.id.0);
    match end {
        End::Shutdown(ShutdownReason::Poweroff | ShutdownReason::Reboot) => info!("{id} ({name}) {end}"),
        End::Shutdown(_) => error!("{id}: {end} ({name} v{vcpu})"),
        End::Crash(_) => {
            error!("{id}: {end} ({name} v{vcpu})\n{}", Registers(regs));
            error!("{id}: {}", Trace::take(regs, &mut CurrentSpace));
        }
    }
    if !end.is_clean() {
        machine().any_crash.store(true, Ordering::Relaxed);
    }
}

/// Frames to be given back, in blocks.
pub struct Remains {
    blocks: Vec<(Mfn, u8)>,
    domains: Vec<Arc<Domain>>,
}

/// One vCPU of an ended domain is gone. After the last one nothing can reach the domain's memory any more: no CPU has
/// its page tables loaded, and no other domain can map its frames.
pub fn vcpu_gone(domain: &Arc<Domain>) -> Option<Remains> {
    if domain.live.fetch_sub(1, Ordering::AcqRel) != 1 {
        return None;
    }
    let blocks = core::mem::take(&mut *domain.memory.lock());
    Some(Remains { blocks, domains: Vec::from([domain.clone()]) })
}

impl Remains {
    /// Joins two.
    pub fn and(mut self, mut other: Remains) -> Remains {
        self.blocks.append(&mut other.blocks);
        self.domains.append(&mut other.domains);
        self
    }

    /// Gives back a bounded number of frames; `None` when all are.
    pub fn give_back_some(mut self) -> Option<Remains> {
        let Some((mfn, order)) = self.blocks.pop() else {
            self.domains.iter().for_each(forget);
            return None;
        };
        let step = order.min(STEP_ORDER);
        guest_frames::release(&machine().frames, &mut machine().allocator.lock(), mfn, step);
        // A larger block goes back in parts; the allocator joins them again.
        let (mut rest, end) = (mfn.offset(1 << step), mfn.offset(1 << order));
        while rest < end {
            let part = rest.0.trailing_zeros().min((end.0 - rest.0).ilog2());
            self.blocks.push((rest, u8::try_from(part).unwrap_or(STEP_ORDER)));
            rest = rest.offset(1 << part);
        }
        Some(self)
    }
}

/// Takes a domain that owns nothing any more off the list.
fn forget(domain: &Arc<Domain>) {
    let (free, total) = {
        let mut allocator = machine().allocator.lock();
        allocator.free(&machine().frames, domain.shared_mfn, 0, true);
        (allocator.free_frames(), allocator.total_frames())
    };
    let left = {
        let mut domains = machine().domains.lock();
        domains.retain(|other| other.id != domain.id);
        domains.len()
    };
    info!("{}: removed; {} MiB of {} MiB free", domain.id, free >> 8, total >> 8);
    console::domain_gone(domain.id);
    if left == 0 {
        all_stopped();
    }
}
