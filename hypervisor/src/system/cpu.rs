//! One CPU: the vCPU it runs, the ones that wait, and how it changes between them.
//!
//! A CPU that has nothing to run stays in [`next`] and halts there; there is no idle vCPU. It has no periodic tick: the
//! timer is set for the next deadline, or not at all.

use core::cell::RefMut;

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::remove::{self, Remains};
use super::runner::Runner;
use super::{CPUS, Domain, descriptors, flush, machine, post};
use crate::addr::{DomainId, VcpuId};
use crate::arch::descriptors::GuestTables;
use crate::arch::{self, percpu, time};
use crate::bounce;
use crate::domain::End;
use crate::domain::vcpu::{Gdt, Ldt};
use crate::guest::GuestRegisters;
use crate::hypercall::Next;
use crate::sched::{Entity, RunQueue, SLICE};

/// What belongs to one CPU and is touched by no other.
pub struct Cpu {
    /// The vCPU whose registers are in `CpuTop`, or were until it left for [`Cpu::queue`].
    pub current: Option<Box<Runner>>,
    /// The vCPUs that wait for this CPU or sleep.
    pub queue: RunQueue<Box<Runner>>,
    /// vCPUs this CPU has to care for, running or not.
    vcpus: usize,
    /// What a `syscall` has still to do, see [`entry`](super::entry).
    pub next: Option<Next>,
    /// Something happened that the way back to the guest must look at.
    pub attention: bool,
    /// When the running vCPU has had its share, if others wait.
    slice_end: u64,
    /// What the timer is set for.
    timer: Option<u64>,
    /// What is left of ended domains and still to be given back.
    remains: Remains,
    /// Whose translations the CPU may hold: the latest vCPU on it.
    translations: Option<(Arc<Domain>, VcpuId)>,
    /// Which descriptors of a guest it shows.
    pub tables: GuestTables,
}

impl Cpu {
    /// A CPU that has nothing to do.
    pub(crate) const fn new() -> Cpu {
        Cpu {
            current: None,
            queue: RunQueue::new(),
            vcpus: 0,
            next: None,
            attention: false,
            slice_end: 0,
            timer: None,
            remains: Remains::new(),
            translations: None,
            tables: GuestTables::new(),
        }
    }
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
        super::entry::report_nmi();
        read_inbox(&mut cpu, regs);
        if !cpu.remains.is_empty() {
            cpu.remains.step();
            cpu.attention = true;
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
            cpu = CPUS.borrow();
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
    enter_space(cpu, &runner);
    cpu.tables.show_gdt(&runner.vcpu.gdt);
    cpu.tables.show_ldt(&runner.vcpu.ldt);
    let Runner { vcpu, state, domain } = &mut *runner;
    state.selectors().into_iter().for_each(|selector| descriptors::touch(domain, vcpu, &mut cpu.tables, selector));
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

/// Loads a vCPU's page tables, and drops the translations of whoever was here before. A guest's user pages are global, so
/// that changing the root alone would leave them.
fn enter_space(cpu: &mut Cpu, runner: &Runner) {
    let (domain, vcpu) = (&runner.domain, runner.vcpu.id);
    if cpu.translations.as_ref().is_some_and(|(last, id)| Arc::ptr_eq(last, domain) && *id == vcpu) {
        arch::vcpu::load_root(runner.vcpu.root());
        return;
    }
    domain.cpus.insert(percpu::cpu());
    arch::vcpu::load_root(runner.vcpu.root());
    forget_translations(cpu, Some(domain));
    cpu.translations = Some((domain.clone(), vcpu));
}

/// Flushes, and says that the CPU holds no translations of the latest domain any more, unless that is `next` too.
fn forget_translations(cpu: &mut Cpu, next: Option<&Arc<Domain>>) {
    flush::flush_here();
    if let Some((last, _)) = cpu.translations.take()
        && next.is_none_or(|next| !Arc::ptr_eq(&last, next))
    {
        last.cpus.remove(percpu::cpu());
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

/// Begins to take a vCPU of a domain that has ended apart. With the last one goes the domain.
fn dispose(cpu: &mut Cpu, runner: Box<Runner>) {
    cpu.vcpus -= 1;
    cpu.attention = true;
    if cpu.current.is_none() {
        // This CPU may still have the vCPU's page tables and descriptors loaded. Else it has another's.
        arch::vcpu::leave_guest_space();
        forget_translations(cpu, None);
        cpu.tables.show_gdt(&Gdt::new());
        cpu.tables.show_ldt(&Ldt::default());
    }
    cpu.remains.add(runner);
}
