//! One CPU: the vCPU it runs, the ones that wait, and how it changes between them.
//!
//! A CPU that has nothing to run stays in [`look_around`] and halts there; there is no idle vCPU. It has no periodic tick: the
//! timer is set for the next deadline, or not at all.

use core::cell::RefMut;
use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::sync::Arc;
use pv_abi::trap::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

use super::remove;
use super::runner::Runner;
use super::{CPUS, Domain, REMAINS, control, descriptors, flush, machine, nudge, park, stock};
use crate::addr::{CpuId, DomainId, VcpuId};
use crate::arch::descriptors::GuestTables;
use crate::arch::vcpu::CurrentSpace;
use crate::arch::{self, percpu, time};
use crate::bounce::{self, Exception};
use crate::domain::areas::{write_clock, write_run_states};
use crate::domain::link::{Activity, VcpuLink};
use crate::domain::runstate::RunState;
use crate::domain::vcpu::{Gdt, Ldt, Vcpu};
use crate::domain::{Crash, End};
use crate::guest::GuestRegisters;
use crate::hypercall::Next;
use crate::sched::{Account, Board, Entity, RunQueue};
use crate::sync::{Guard, SpinLock};

/// Vector of an NMI.
const NMI: u8 = 2;

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
    translations: Option<(Arc<Domain>, VcpuId)>,
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
fn queue() -> Guard<'static, RunQueue<Box<Runner>>> {
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
            cpu = look_around(cpu, regs);
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
        let delivered = bounce::exception(vcpu, regs, space, Exception::new(NMI));
        vcpu.in_nmi = true;
        return Some(delivered);
    }
    vcpu.info.upcall_due().then(|| bounce::upcall(vcpu, regs, space))
}

/// Looks for what happened, and makes sure that a vCPU is on the CPU, waiting for one if need be.
fn look_around(mut cpu: RefMut<'static, Cpu>, regs: &mut GuestRegisters) -> RefMut<'static, Cpu> {
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

/// May this vCPU run on this CPU?
fn may_run_here(runner: &Runner) -> bool {
    runner.domain.may_run(runner.link()) && runner.account.allowed().contains(percpu::cpu())
}

/// Takes the current vCPU off the CPU if its domain has ended or if it may not run here any more.
fn drop_current_if_stopped(cpu: &mut Cpu, regs: &GuestRegisters) {
    if let Some(runner) = &cpu.current
        && (runner.domain.is_ending() || !may_run_here(runner))
    {
        leave_cpu(cpu, regs, To::Park);
    }
}

/// Wakes the sleepers of this CPU whose time has come.
fn expire(now: u64) {
    queue().expire(now, board(), |runner| {
        runner.link().change_run_state(RunState::Runnable, now);
        runner.link().set_activity(Activity::Elsewhere);
    });
}

/// Must the current vCPU, whose account this is, leave the CPU to another one?
fn must_leave(account: &Account, now: u64, yields: bool) -> bool {
    let mut queue = queue();
    queue.must_leave(account, now) || yields && queue.has_ready()
}

/// Takes a vCPU that waits at another CPU into this one's queue, if it should run here. True if there was one.
fn steal(now: u64) -> bool {
    let here = percpu::cpu();
    let Some((victim, limit)) = queue().victim(now, board()) else { return false };
    let mut from = queue_of(victim).lock();
    let Some(runner) = from.give(here, limit, now, board()) else { return false };
    runner.link().set_cpu(here);
    drop(from);
    queue().admit(runner, now, board());
    true
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

/// Takes a vCPU that had this CPU out of the scheduler's hands.
fn dismiss(runner: &mut Box<Runner>, now: u64) {
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

/// Where a vCPU goes that leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// Among those that are ready.
    Queue { yields: bool },
    /// To sleep, with an optional deadline, its timers apart.
    Sleep(Option<u64>),
    /// Among those that may not run, or to a CPU that it may use.
    Park,
}

/// Takes the current vCPU off the CPU.
fn leave_cpu(cpu: &mut Cpu, regs: &GuestRegisters, to: To) {
    let Some(mut runner) = cpu.current.take() else { return };
    runner.vcpu.regs = *regs;
    runner.state.save();
    // From here on another CPU may get hold of the vCPU, and drop its page tables.
    arch::vcpu::leave_guest_space();
    let now = time::now();
    if runner.domain.is_ending() {
        dismiss(&mut runner, now);
        return dispose(cpu, runner);
    }
    match to {
        To::Queue { yields } => put_back(runner, yields, now),
        To::Sleep(until) => {
            let until = until.into_iter().chain(runner.timer_deadline()).min();
            let mut queue = queue();
            if runner.link().fall_asleep() {
                runner.link().change_run_state(RunState::Blocked, now);
                // The domain may have ended since we looked; then its sleepers are looked for with this lock held.
                if runner.domain.is_ending() {
                    queue.dismiss(&mut runner, now, board());
                    drop(queue);
                    return dispose(cpu, runner);
                }
                queue.sleep(runner, until, now, board());
            } else {
                drop(queue);
                put_back(runner, false, now);
            }
        }
        To::Park => {
            dismiss(&mut runner, now);
            runner.link().set_activity(Activity::Elsewhere);
            settle(runner);
        }
    }
}

/// Puts the vCPU that had this CPU into its queue.
fn put_back(runner: Box<Runner>, yields: bool, now: u64) {
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

/// Makes room for so many more vCPUs in all queues, so that none ever needs memory to take one.
pub fn make_room(vcpus: usize) {
    let total = machine().vcpus.fetch_add(vcpus, Ordering::Relaxed) + vcpus;
    machine().queues.iter().for_each(|queue| queue.lock().reserve(total));
}

/// Puts a vCPU on the CPU.
fn enter_cpu(cpu: &mut Cpu, regs: &mut GuestRegisters, mut runner: Box<Runner>) {
    let now = time::now();
    let link = runner.domain.link(runner.vcpu.id);
    link.set_activity(Activity::Running);
    if link.is_polling() {
        runner.domain.events.end_poll(runner.vcpu.id);
    }
    link.change_run_state(RunState::Running, now);
    runner.vcpu.info = link.info();
    *regs = runner.vcpu.regs;
    enter_space(cpu, &mut runner);
    cpu.local.tables.show_gdt(&runner.vcpu.gdt);
    cpu.local.tables.show_ldt(&runner.vcpu.ldt);
    let Runner { vcpu, state, domain, .. } = &mut *runner;
    state
        .selectors()
        .into_iter()
        .for_each(|selector| descriptors::touch(domain, vcpu, &mut cpu.local.tables, selector));
    let refused = state.load(&vcpu.control);
    vcpu.info.set_time(&time::clock().guest_record(time::tsc()));
    publish_areas(domain.link(vcpu.id), vcpu);
    let entered = match refused {
        Some(selectors) => bounce::failsafe(vcpu, regs, &mut CurrentSpace, selectors).err(),
        None => None,
    };
    // Whoever changed something about that before it was said to run has not interrupted this CPU.
    cpu.local.attention |= !may_run_here(&runner) || runner.account.escapes_cap();
    cpu.current = Some(runner);
    if let Some(crash) = entered {
        end_current(cpu, regs, End::Crash(crash));
    }
}

/// Writes the records that the guest wants in its memory, for a vCPU that is put on this CPU. What can't be written is not:
/// the addresses are left to the guest.
fn publish_areas(link: &VcpuLink, vcpu: &Vcpu) {
    let [run_states, clock] = link.areas();
    if run_states.is_none() && clock.is_none() {
        return;
    }
    let space = &mut CurrentSpace;
    // They are addresses of the guest's kernel, whatever runs.
    arch::vcpu::load_root(vcpu.roots.kernel);
    if let Some(address) = run_states {
        let flagged = vcpu.assists.has(VMASST_TYPE_RUNSTATE_UPDATE_FLAG);
        let _ = write_run_states(space, address, link.run_states(time::now()), flagged);
    }
    if let Some(address) = clock {
        let _ = write_clock(space, address, &time::clock().guest_record(time::tsc()));
    }
    arch::vcpu::load_root(vcpu.root());
}

/// Loads a vCPU's page tables, and drops the translations of whoever was here before, or of itself if it ran elsewhere
/// meanwhile. A guest's user pages are global, so that changing the root alone would leave them.
fn enter_space(cpu: &mut Cpu, runner: &mut Runner) {
    let Runner { vcpu, domain, .. } = runner;
    let here = percpu::cpu();
    let was_here = vcpu.last_cpu.replace(here) == Some(here);
    if was_here && cpu.translations.as_ref().is_some_and(|(last, id)| Arc::ptr_eq(last, domain) && *id == vcpu.id) {
        arch::vcpu::load_root(vcpu.root());
        return;
    }
    domain.cpus.insert(here);
    arch::vcpu::load_root(vcpu.root());
    forget_translations(cpu, Some(domain));
    cpu.translations = Some((domain.clone(), vcpu.id));
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

/// Ends the domain of the current vCPU and says why. One that has a supervisor shuts down, and stays until that ends it.
fn end_current(cpu: &mut Cpu, regs: &GuestRegisters, end: End) {
    let Some(runner) = cpu.current.as_ref() else { return };
    let domain: Arc<Domain> = runner.domain.clone();
    if domain.supervised {
        if control::shut_down(&domain, end, &mut cpu.local.attention) {
            remove::report(runner, regs, end);
        }
        return leave_cpu(cpu, regs, To::Park);
    }
    let Some(mut runner) = cpu.current.take() else { return };
    dismiss(&mut runner, time::now());
    let mut first = false;
    domain.end.call_once(|| {
        first = true;
        end
    });
    if first {
        remove::report(&runner, regs, end);
    }
    arch::vcpu::leave_guest_space();
    dispose(cpu, runner);
    reap(&domain, &mut cpu.local.attention);
    if domain.privileged {
        control::gone(&mut cpu.local.attention);
    }
}

/// Takes all vCPUs of a domain that has ended from where they are; those that run leave their CPUs themselves. Whoever
/// had one in hand meanwhile sees that the domain has ended before it puts it anywhere. `attention` is this CPU's flag.
pub fn reap(domain: &Arc<Domain>, attention: &mut bool) {
    for queue in &machine().queues {
        while let Some(runner) = remove_one(queue, domain) {
            bury(runner, attention);
        }
    }
    while let Some(runner) = park::take_any(domain) {
        bury(runner, attention);
    }
    let here = percpu::cpu();
    machine().running_cpus().filter(|&other| other != here).for_each(nudge);
}

fn remove_one(queue: &SpinLock<RunQueue<Box<Runner>>>, domain: &Arc<Domain>) -> Option<Box<Runner>> {
    queue.lock().remove(board(), |runner| Arc::ptr_eq(&runner.domain, domain))
}

/// Begins to take a vCPU of a domain that has ended apart. With the last one goes the domain. No CPU has its page tables
/// loaded.
fn dispose(cpu: &mut Cpu, runner: Box<Runner>) {
    if cpu.current.is_none() {
        // This CPU may still show the vCPU's descriptors. Else it shows another's.
        forget_translations(cpu, None);
        cpu.local.tables.show_gdt(&Gdt::new());
        cpu.local.tables.show_ldt(&Ldt::default());
    }
    bury(runner, &mut cpu.local.attention);
}

/// Begins to take a vCPU of a domain that has ended apart, which this CPU doesn't show.
fn bury(runner: Box<Runner>, attention: &mut bool) {
    machine().vcpus.fetch_sub(1, Ordering::Relaxed);
    runner.link().set_activity(Activity::Elsewhere);
    *attention = true;
    REMAINS.borrow().add(runner);
}

/// Takes a vCPU that waits or sleeps out of its queue. It must be settled afterwards.
pub fn take_waiting(link: &VcpuLink) -> Option<Box<Runner>> {
    let mut queue = queue_of(link.cpu()).lock();
    let runner = queue.remove(board(), |runner| runner.key() == (link.domain, link.id))?;
    link.set_activity(Activity::Elsewhere);
    Some(runner)
}
