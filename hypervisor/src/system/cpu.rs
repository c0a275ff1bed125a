//! One CPU: the vCPU it runs, the ones that wait, and how it changes between them.
//!
//! A CPU that has nothing to run stays in [`next`] and halts there; there is no idle vCPU. It has no periodic tick: the
//! timer is set for the next deadline, or not at all.

use core::cell::RefMut;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::remove::{self, Remains};
use super::runner::Runner;
use super::{Domain, machine, post};
use crate::addr::{DomainId, VcpuId};
use crate::arch::{self, percpu, time};
use crate::bounce;
use crate::domain::End;
use crate::guest::GuestRegisters;
use crate::hypercall::Next;
use crate::sched::{Entity, RunQueue, SLICE};

/// What belongs to one CPU and is touched by no other.
#[derive(Default)]
pub struct Cpu {
    /// The vCPU whose registers are in `CpuTop`, or were until it left for [`Cpu::queue`].
    pub current: Option<Box<Runner>>,
    /// The vCPUs that wait for this CPU or sleep.
    pub queue: RunQueue<Box<Runner>>,
    /// vCPUs this CPU has to care for, running or not.
    vcpus: usize,
    /// Something happened that the way back to the guest must look at.
    pub attention: bool,
    /// When the running vCPU has had its share, if others wait.
    slice_end: u64,
    /// What the timer is set for.
    timer: Option<u64>,
    /// Memory of ended domains that is still to be given back.
    remains: Option<Remains>,
}

impl Entity for Box<Runner> {
    type Key = (DomainId, VcpuId);

    fn key(&self) -> Self::Key {
        (self.vcpu.domain, self.vcpu.id)
    }
}

/// Carries out what became of the current vCPU, and answers when some vCPU's registers are ready in `regs`.
pub fn finish(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters, next: Next) -> bounce::Return {
    let mut how = bounce::Return::Full;
    match next {
        Next::Resume(asked) => how = asked,
        Next::Yield => {
            cpu.attention = true;
            cpu.slice_end = 0;
        }
        Next::Block => leave_cpu(&mut cpu, regs, Some(None)),
        Next::Poll { until } => leave_cpu(&mut cpu, regs, Some(until)),
        Next::End(end) => end_current(&mut cpu, regs, end),
    }
    loop {
        if cpu.attention || cpu.current.is_none() {
            cpu = look_around(cpu, regs);
            how = bounce::Return::Full;
        }
        let Some(runner) = cpu.current.as_mut() else { continue };
        if !runner.vcpu.info.upcall_due() {
            return how;
        }
        match bounce::upcall(&mut runner.vcpu, regs, &mut arch::vcpu::CurrentSpace) {
            Ok(delivered) => return delivered,
            Err(crash) => end_current(&mut cpu, regs, End::Crash(crash)),
        }
    }
}

/// Reads the inbox, wakes sleepers, and makes sure that a vCPU is on the CPU, waiting for one if need be.
fn look_around(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters) -> RefMut<'static, Cpu> {
    loop {
        cpu.attention = false;
        read_inbox(&mut cpu, regs);
        if let Some(remains) = cpu.remains.take() {
            cpu.remains = remains.give_back_some();
            cpu.attention = cpu.remains.is_some();
        }
        let now = time::now();
        cpu.queue.expire(now);
        if cpu.current.is_some() && cpu.slice_end <= now && cpu.queue.has_ready() {
            leave_cpu(&mut cpu, regs, None);
        }
        if cpu.current.is_none()
            && let Some(runner) = cpu.queue.pick()
        {
            enter_cpu(&mut cpu, regs, runner);
        }
        if cpu.slice_end <= now {
            cpu.slice_end = now + SLICE;
        }
        set_timer(&mut cpu);
        if cpu.current.is_some() {
            return cpu;
        }
        if !cpu.attention {
            arch::vcpu::leave_guest_space();
            // An interrupt in the idle loop wants the CPU's state.
            drop(cpu);
            arch::idle();
            cpu = machine().cpus.borrow();
        }
    }
}

fn read_inbox(cpu: &mut Cpu, regs: &mut GuestRegisters) {
    let inbox = core::mem::take(&mut *machine().inboxes[percpu::cpu().0 as usize].lock());
    if inbox.reap {
        if cpu.current.as_ref().is_some_and(|runner| runner.domain.is_ending()) {
            leave_cpu(cpu, regs, None);
        }
        while let Some(runner) = cpu.queue.remove(|runner| runner.domain.is_ending()) {
            dispose(cpu, runner);
        }
    }
    for runner in inbox.adopt {
        cpu.vcpus += 1;
        let vcpus = cpu.vcpus;
        cpu.queue.reserve(vcpus);
        cpu.queue.push(runner);
    }
}

/// Sets the timer for the next deadline, if that has changed.
fn set_timer(cpu: &mut Cpu) {
    let deadline = cpu.queue.next_deadline(cpu.current.is_some().then_some(cpu.slice_end));
    if deadline != cpu.timer {
        arch::apic::set_timer(deadline);
        cpu.timer = deadline;
    }
}

/// The timer has fired: it is set for nothing now.
pub fn timer_fired(cpu: &mut Cpu) {
    cpu.timer = None;
    cpu.attention = true;
}

/// Takes the current vCPU off the CPU: to sleep, with an optional deadline, or to the end of the queue.
fn leave_cpu(cpu: &mut Cpu, regs: &GuestRegisters, sleep: Option<Option<u64>>) {
    let Some(mut runner) = cpu.current.take() else { return };
    runner.vcpu.regs = *regs;
    runner.state.save();
    match sleep {
        Some(until) => cpu.queue.sleep(runner, until),
        None => cpu.queue.push(runner),
    }
}

/// Puts a vCPU on the CPU.
fn enter_cpu(cpu: &mut Cpu, regs: &mut GuestRegisters, mut runner: Box<Runner>) {
    *regs = runner.vcpu.regs;
    arch::vcpu::enter_guest_space(&runner.vcpu);
    let refused = runner.state.load(&runner.vcpu.control);
    runner.vcpu.info.set_time(&time::clock().guest_record(time::tsc()));
    let vcpu = &mut runner.vcpu;
    let entered = match refused {
        Some(selectors) => bounce::failsafe(vcpu, regs, &mut arch::vcpu::CurrentSpace, selectors).err(),
        None => None,
    };
    cpu.slice_end = time::now() + SLICE;
    cpu.current = Some(runner);
    if let Some(crash) = entered {
        end_current(cpu, regs, End::Crash(crash));
    }
}

/// Ends the domain of the current vCPU: says why, and takes all its vCPUs off all CPUs.
fn end_current(cpu: &mut Cpu, regs: &GuestRegisters, end: End) {
    let Some(runner) = cpu.current.take() else { return };
    let domain: Arc<Domain> = runner.domain.clone();
    remove::report(&runner, regs, end);
    domain.end.call_once(|| end);
    dispose(cpu, runner);
    let here = percpu::cpu();
    for other in machine().running_cpus().filter(|&other| other != here) {
        post(other, |inbox| inbox.reap = true);
    }
    while let Some(runner) = cpu.queue.remove(|runner| runner.domain.is_ending()) {
        dispose(cpu, runner);
    }
}

/// Drops a vCPU of a domain that has ended; with the last one goes the domain.
fn dispose(cpu: &mut Cpu, runner: Box<Runner>) {
    cpu.vcpus -= 1;
    cpu.attention = true;
    // This CPU may still have the domain's page tables loaded.
    arch::vcpu::leave_guest_space();
    let domain = runner.domain.clone();
    drop(runner);
    if let Some(remains) = remove::vcpu_gone(&domain) {
        cpu.remains = Some(match cpu.remains.take() {
            Some(others) => others.and(remains),
            None => remains,
        });
    }
}
