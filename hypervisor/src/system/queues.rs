//! The run queues, one for each CPU: the vCPUs that are ready or asleep there, and how they get in and out.
//!
//! A queue's lock is held for a few instructions at a time. Any CPU may take it, to wake a vCPU up, to send one there or to
//! take one from there.

use core::sync::atomic::Ordering;

use alloc::boxed::Box;

use super::runner::Runner;
use super::{machine, nudge, park};
use crate::addr::{CpuId, DomainId, VcpuId};
use crate::arch::{percpu, time};
use crate::domain::link::{Activity, VcpuLink};
use crate::domain::runstate::RunState;
use crate::sched::{Account, Board, Entity, RunQueue};
use crate::sync::{Guard, SpinLock};

impl Entity for Box<Runner> {
    type Key = (DomainId, VcpuId);

    fn key(&self) -> Self::Key {
        (self.vcpu.domain, self.vcpu.id)
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }
}

/// This CPU's run queue.
pub fn queue() -> Guard<'static, RunQueue<Box<Runner>>> {
    queue_of(percpu::cpu()).lock()
}

/// A CPU's run queue.
pub fn queue_of(cpu: CpuId) -> &'static SpinLock<RunQueue<Box<Runner>>> {
    &machine().queues[cpu.0 as usize]
}

/// What CPUs tell each other of their queues.
pub fn board() -> &'static Board {
    &machine().board
}

/// Wakes the sleepers of this CPU whose time has come.
pub fn expire(now: u64) {
    queue().expire(now, board(), |runner| {
        runner.link().change_run_state(RunState::Runnable, now);
        runner.link().set_activity(Activity::Elsewhere);
    });
}

/// Takes a vCPU that waits at another CPU into this one's queue, if it should run here. True if there was one.
pub fn steal(now: u64) -> bool {
    let here = percpu::cpu();
    let Some((victim, limit)) = queue().victim(now, board()) else { return false };
    let mut from = queue_of(victim).lock();
    let Some(runner) = from.give(here, limit, now, board()) else { return false };
    runner.link().set_cpu(here);
    drop(from);
    queue().admit(runner, now, board());
    true
}

/// Puts the vCPU that had this CPU into its queue.
pub fn put_back(runner: Box<Runner>, yields: bool, now: u64) {
    let link = runner.link();
    link.change_run_state(RunState::Runnable, now);
    link.set_activity(Activity::Elsewhere);
    queue().put_back(runner, yields, now, board());
}

/// Puts a vCPU that was on no CPU and in no queue into the queue of a CPU that it may use.
pub fn enqueue(runner: Box<Runner>) {
    let (link, now) = (runner.link(), time::now());
    let cpu = board().place(link.cpu(), runner.account.allowed(), runner.domain.turn(link.id));
    link.set_cpu(cpu);
    link.change_run_state(RunState::Runnable, now);
    let mut queue = queue_of(cpu).lock();
    let kicked = if queue.admit(runner, now, board()) { Some(cpu) } else { queue.helper(now, board()) };
    kicked.into_iter().for_each(nudge);
}

/// Takes a vCPU that had this CPU out of the scheduler's hands.
pub fn dismiss(runner: &mut Box<Runner>, now: u64) {
    queue().dismiss(runner, now, board());
}

/// Parks a vCPU, or does what is to be done instead.
pub fn settle(runner: Box<Runner>) {
    runner.link().change_run_state(RunState::Offline, time::now());
    // If its domain has ended, the CPU that takes it from its queue takes it apart.
    if let Some(runner) = park::park(runner) {
        enqueue(runner);
    }
}

/// Takes a vCPU that waits or sleeps out of its queue. It must be settled afterwards.
pub fn take_waiting(link: &VcpuLink) -> Option<Box<Runner>> {
    let mut queue = queue_of(link.cpu()).lock();
    let runner = queue.remove(board(), |runner| runner.key() == (link.domain, link.id))?;
    link.set_activity(Activity::Elsewhere);
    Some(runner)
}

/// Makes room for so many more vCPUs in all queues, so that none ever needs memory to take one.
pub fn make_room(vcpus: usize) {
    let total = machine().vcpus.fetch_add(vcpus, Ordering::Relaxed) + vcpus;
    machine().queues.iter().for_each(|queue| queue.lock().reserve(total));
}
