//! One CPU: what it does between two runs of a guest, and which vCPU it runs next.
//!
//! A CPU that has nothing to run stays in [`schedule`] and halts there; there is no idle vCPU. It has no periodic tick: the
//! timer is set for the next deadline, or not at all.

use core::cell::RefMut;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::end::{dispose, end_current};
use super::queues::{board, dismiss, expire, queue, settle, steal};
use super::runner::Runner;
use super::switch::{To, enter_cpu, leave_cpu, may_run_here};
use super::{CPUS, Domain, REMAINS, nudge, stock};
use crate::addr::VcpuId;
use crate::arch::descriptors::GuestTables;
use crate::arch::vcpu::CurrentSpace;
use crate::arch::{self, percpu, time};
use crate::bounce::{self, Exception};
use crate::domain::{Crash, End};
use crate::guest::GuestRegisters;
use crate::hypercall::Next;
use crate::sched::Account;

/// What belongs to one CPU and is touched by no other.
pub struct Cpu {
    /// The vCPU whose registers are in `CpuTop`, or were until it left for a queue.
    pub current: Option<Box<Runner>>,
    /// What a `syscall` has still to do, see [`entry`](super::entry).
    pub next: Option<Next>,
    /// What calls of the current vCPU may change.
    pub local: Local,
    /// The current vCPU lets another one go first.
    yields: bool,
    /// Whose translations the CPU may hold: the latest vCPU on it.
    pub translations: Option<(Arc<Domain>, VcpuId)>,
}

/// The part of a [`Cpu`] that hypercalls and privileged instructions of its current vCPU may change.
pub struct Local {
    /// Something happened that the way back to the guest must look at.
    pub attention: bool,
    /// What the timer is set for.
    pub timer: Option<u64>,
    /// Which descriptors of a guest the CPU shows.
    pub tables: GuestTables,
}

impl Cpu {
    /// A CPU that has nothing to do.
    pub(crate) const fn new() -> Cpu {
        Cpu {
            current: None,
            next: None,
            local: Local { attention: false, timer: None, tables: GuestTables::new() },
            yields: false,
            translations: None,
        }
    }
}

/// Carries out what became of the current vCPU, and answers when some vCPU's registers are ready in `regs`.
pub fn finish(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters, next: Next) -> bounce::Return {
    let mut how = bounce::Return::Full;
    match next {
        Next::Resume(asked) => how = asked,
        Next::Yield => {
            cpu.yields = board().has_waiting(percpu::cpu());
            cpu.local.attention |= cpu.yields;
        }
        Next::Block => leave_cpu(&mut cpu, regs, To::Sleep(None)),
        Next::Poll { until } => leave_cpu(&mut cpu, regs, To::Sleep(until)),
        Next::End(end) => end_current(&mut cpu, regs, end),
    }
    loop {
        if cpu.local.attention || cpu.current.is_none() {
            cpu = schedule(cpu, regs);
            how = bounce::Return::Full;
        }
        match enter_callbacks(&mut cpu, regs) {
            Some(Ok(delivered)) => how = delivered,
            Some(Err(crash)) => end_current(&mut cpu, regs, End::Crash(crash)),
            None if cpu.local.attention || cpu.current.is_none() => {}
            None => {
                // One that came while the guest handles another is looked for again when it next goes on.
                cpu.local.attention |= cpu.current.as_ref().is_some_and(|runner| runner.link().has_nmi());
                return how;
            }
        }
    }
}

/// Enters the guest's handler for an NMI or an upcall, if one is due.
fn enter_callbacks(cpu: &mut Cpu, regs: &mut GuestRegisters) -> Option<Result<bounce::Return, Crash>> {
    let Runner { vcpu, domain, .. } = &mut **cpu.current.as_mut()?;
    let link = domain.link(vcpu.id);
    let space = &mut CurrentSpace;
    if link.has_nmi() && !vcpu.in_nmi && link.take_nmi() {
        let delivered = bounce::exception(vcpu, regs, space, Exception::NMI);
        vcpu.in_nmi = true;
        return Some(delivered);
    }
    vcpu.info.upcall_due().then(|| bounce::upcall(vcpu, regs, space))
}

/// Looks for what happened, and makes sure that a vCPU is on the CPU, waiting for one if need be.
fn schedule(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters) -> RefMut<'static, Cpu> {
    loop {
        cpu.local.attention = false;
        super::entry::report_nmi();
        let mut remains = REMAINS.borrow();
        if !remains.is_empty() {
            remains.step(&mut cpu.local.attention);
            cpu.local.attention = true;
        }
        drop(remains);
        stock::refill();
        let now = time::now();
        drop_current_if_stopped(&mut cpu, regs);
        expire(now);
        steal(now);
        let yields = core::mem::take(&mut cpu.yields);
        if cpu.current.as_ref().is_some_and(|runner| must_leave(&runner.account, now, yields)) {
            leave_cpu(&mut cpu, regs, To::Queue { yields });
        }
        while cpu.current.is_none() {
            let picked = queue().pick(now, board());
            match picked {
                Some(runner) => enter_if_it_may(&mut cpu, regs, runner),
                None if steal(now) => {}
                None => break,
            }
        }
        fire_timers(&mut cpu, now);
        set_timer(&mut cpu);
        if cpu.current.is_some() {
            return cpu;
        }
        if !cpu.local.attention {
            // An interrupt in the idle loop wants the CPU's state.
            drop(cpu);
            arch::idle();
            cpu = CPUS.borrow();
        }
    }
}

/// Takes the current vCPU off the CPU if its domain has ended or if it may not run here any more.
fn drop_current_if_stopped(cpu: &mut Cpu, regs: &GuestRegisters) {
    if let Some(runner) = &cpu.current
        && (runner.domain.is_ending() || !may_run_here(runner))
    {
        leave_cpu(cpu, regs, To::Park);
    }
}

/// Must the current vCPU, whose account this is, leave the CPU to another one?
fn must_leave(account: &Account, now: u64, yields: bool) -> bool {
    let mut queue = queue();
    queue.must_leave(account, now) || yields && queue.has_ready()
}

/// Puts a vCPU from the queue on the CPU, unless it may not run, or only elsewhere.
fn enter_if_it_may(cpu: &mut Cpu, regs: &mut GuestRegisters, mut runner: Box<Runner>) {
    if !runner.domain.is_ending() && may_run_here(&runner) {
        return enter_cpu(cpu, regs, runner);
    }
    dismiss(&mut runner, time::now());
    if runner.domain.is_ending() {
        dispose(cpu, runner);
    } else {
        settle(runner);
    }
}

/// Raises the timer interrupt of the vCPU on this CPU, if its time has come. A period that others asked for begins here.
fn fire_timers(cpu: &mut Cpu, now: u64) {
    let Some(runner) = &mut cpu.current else { return };
    if let Some(period) = runner.link().take_period() {
        runner.vcpu.timers.change_period(period, now);
    }
    if runner.vcpu.timers.expire(now) {
        runner.domain.raise_timer(runner.vcpu.id, &mut cpu.local.attention);
    }
}

/// Sets the timer for the next deadline, if that has changed.
fn set_timer(cpu: &mut Cpu) {
    let deadline = {
        let queue = queue();
        if let Some(helper) = queue.helper(time::now(), board()) {
            nudge(helper);
        }
        queue.next_deadline()
    };
    let timer = cpu.current.as_ref().and_then(|runner| runner.timer_deadline());
    let deadline = timer.into_iter().chain(deadline).min();
    if deadline != cpu.local.timer {
        arch::apic::set_timer(deadline);
        cpu.local.timer = deadline;
    }
}

/// The timer has fired: it is set for nothing now.
pub fn timer_fired(cpu: &mut Cpu) {
    cpu.local.timer = None;
    cpu.local.attention = true;
}
