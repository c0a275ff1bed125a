//! Getting the attention of a vCPU, wherever it is. `domain::link` says why no wake-up is lost.

use alloc::boxed::Box;

use pv_abi::event::VIRQ_TIMER;

use super::runner::Runner;
use super::{Domain, nudge, queues};
use crate::addr::{CpuId, VcpuId};
use crate::arch::{percpu, time};
use crate::domain::link::{Activity, VcpuLink};
use crate::domain::runstate::RunState;
use crate::event::Kick;
use crate::sched::{RunQueue, Woken};
use crate::sync::Guard;

/// Kicks vCPUs from this CPU, whose flag it holds.
pub struct Kicker<'a>(pub &'a mut bool);

impl Kick for Kicker<'_> {
    fn kick(&mut self, vcpu: &VcpuLink) {
        kick(vcpu, self.0);
    }
}

impl Domain {
    /// Raises a vCPU's timer interrupt. `attention` is this CPU's flag.
    pub fn raise_timer(&self, vcpu: VcpuId, attention: &mut bool) {
        self.events.raise(VIRQ_TIMER, vcpu).kick(&mut Kicker(attention));
    }
}

/// Makes a vCPU look at what is new for it. `attention` is this CPU's own flag.
pub fn kick(link: &VcpuLink, attention: &mut bool) {
    match link.activity() {
        // It looks at its flags before it goes on.
        Activity::Elsewhere => {}
        Activity::Running => {
            let cpu = link.cpu();
            if cpu != percpu::cpu() {
                if link.has_reason_to_wake() {
                    nudge(cpu);
                }
            } else if link.has_nmi() {
                *attention = true;
            }
        }
        Activity::Asleep => {
            if link.has_reason_to_wake() {
                wake(link, attention);
            }
        }
    }
}

/// Makes a vCPU leave its CPU if it may not run there any more, if it is on one. A sleeper goes on sleeping.
pub fn stop(link: &VcpuLink, attention: &mut bool) {
    if link.activity() == Activity::Running {
        if link.cpu() == percpu::cpu() {
            *attention = true;
        } else {
            nudge(link.cpu());
        }
    }
}

/// Wakes a vCPU that sleeps, if it does: where it slept, or on an idle CPU.
fn wake(link: &VcpuLink, attention: &mut bool) {
    let now = time::now();
    let (cpu, mut queue) = queue_of(link);
    let woken = queue.wake((link.domain, link.id), now, queues::board());
    if !matches!(woken, Woken::NotHere) {
        link.change_run_state(RunState::Runnable, now);
        link.set_activity(Activity::Elsewhere);
    }
    let (cpu, kick) = match woken {
        Woken::NotHere => return,
        Woken::Here { kick } => {
            // A CPU may have become idle since the queue looked for one.
            let helper = if kick { None } else { queue.helper(now, queues::board()) };
            helper.into_iter().for_each(nudge);
            (cpu, kick)
        }
        Woken::Moves(runner, to) => {
            link.set_cpu(to);
            drop(queue);
            (to, queues::queue_of(to).lock().admit(runner, now, queues::board()))
        }
    };
    if kick && cpu == percpu::cpu() {
        *attention = true;
    } else if kick {
        nudge(cpu);
    }
}

/// The queue in which a vCPU is, if it is in one, locked: it can't move meanwhile.
fn queue_of(link: &VcpuLink) -> (CpuId, Guard<'static, RunQueue<Box<Runner>>>) {
    loop {
        let cpu = link.cpu();
        let queue = queues::queue_of(cpu).lock();
        if link.cpu() == cpu {
            return (cpu, queue);
        }
    }
}
