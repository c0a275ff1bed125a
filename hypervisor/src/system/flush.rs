//! Flushes of translations, on this CPU and on others.
//!
//! A CPU that needs others to flush sends them an interrupt and waits. It waits with interrupts off, so it serves flush
//! requests to itself meanwhile, and never holds a lock. Two CPUs that flush each other therefore both make progress, and
//! a wait is over as soon as the others' bounded work is.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use super::memory::clock;
use crate::addr::CpuId;
use crate::arch::mm::tlb;
use crate::arch::{apic, percpu, vectors};
use crate::mm::flush::{CpuSet, MAX_CPUS};

/// What other CPUs asked of a CPU. Both only count up, and wrap.
struct Requests {
    wanted: AtomicU32,
    /// The value of `wanted` that was there before the latest flush began.
    done: AtomicU32,
}

static REQUESTS: [Requests; MAX_CPUS] =
    [const { Requests { wanted: AtomicU32::new(0), done: AtomicU32::new(0) } }; MAX_CPUS];

fn requests(cpu: CpuId) -> &'static Requests {
    // CPU numbers are below `MAX_CPUS`: they come from a `CpuSet`, or are this CPU's.
    &REQUESTS[cpu.0 as usize]
}

/// Makes `cpus` forget all translations, global ones and those of upper levels included, and waits for it.
#[inline]
pub fn flush(cpus: CpuSet) {
    let here = percpu::cpu();
    if cpus == CpuSet::only(here) { flush_here() } else { flush_others_too(cpus, here) }
}

#[inline(never)]
fn flush_others_too(cpus: CpuSet, here: CpuId) {
    let others = cpus.difference(CpuSet::only(here));
    for cpu in others.iter() {
        requests(cpu).wanted.fetch_add(1, Ordering::SeqCst);
        apic::send(cpu, vectors::FLUSH);
    }
    if cpus.contains(here) {
        flush_here();
    }
    for cpu in others.iter() {
        let Requests { wanted, done } = requests(cpu);
        let goal = wanted.load(Ordering::SeqCst);
        // Behind `goal` by less than half the range: not there yet.
        while done.load(Ordering::SeqCst).wrapping_sub(goal).cast_signed() < 0 {
            serve();
            spin_loop();
        }
    }
}

/// Makes this CPU forget all translations.
#[inline(never)]
pub fn flush_here() {
    let ticket = clock().begin();
    tlb::flush_all();
    clock().done(percpu::cpu(), ticket);
}

/// Does what other CPUs asked of this one.
pub fn serve() {
    let Requests { wanted, done } = requests(percpu::cpu());
    let goal = wanted.load(Ordering::SeqCst);
    if goal != done.load(Ordering::Relaxed) {
        flush_here();
        done.store(goal, Ordering::SeqCst);
    }
}
