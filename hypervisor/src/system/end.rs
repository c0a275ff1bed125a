//! The end of a domain: the report, and its vCPUs, which are taken from wherever they are. What is left of it after that is
//! given back step by step, by [`remove`](super::remove).

use core::sync::atomic::Ordering;

use alloc::boxed::Box;
use alloc::sync::Arc;

use log::{debug, error, info};

use super::cpu::Cpu;
use super::queues::{board, dismiss};
use super::runner::Runner;
use super::switch::{To, forget_translations, leave_cpu};
use super::{Domain, REMAINS, control, machine, nudge, park};
use crate::arch::vcpu::CurrentSpace;
use crate::arch::{self, percpu, time};
use crate::domain::link::Activity;
use crate::domain::report::{Registers, Trace};
use crate::domain::vcpu::{Gdt, Ldt};
use crate::domain::{End, ShutdownReason};
use crate::guest::GuestRegisters;
use crate::sched::RunQueue;
use crate::sync::SpinLock;

/// Ends the domain of the current vCPU and says why. One that has a supervisor shuts down, and stays until that ends it.
pub fn end_current(cpu: &mut Cpu, regs: &GuestRegisters, end: End) {
    let Some(runner) = cpu.current.as_ref() else { return };
    let domain: Arc<Domain> = runner.domain.clone();
    if domain.supervised {
        if control::shut_down(&domain, end, &mut cpu.local.attention) {
            report(runner, regs, end);
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
        report(&runner, regs, end);
    }
    arch::vcpu::leave_guest_space();
    dispose(cpu, runner);
    reap(&domain, &mut cpu.local.attention);
    if domain.privileged {
        control::gone(&mut cpu.local.attention);
    }
}

/// Says why a domain ends. Its address space is still loaded.
fn report(runner: &Runner, regs: &GuestRegisters, end: End) {
    let domain = &runner.domain;
    let (id, name, vcpu) = (domain.id, &domain.name, runner.vcpu.id.0);
    match end {
        // Its supervisor asks for the reason.
        _ if end.is_clean() && domain.supervised => debug!("{id} ({name}) {end}"),
        End::Shutdown(ShutdownReason::Poweroff | ShutdownReason::Reboot) | End::Destroyed => {
            info!("{id} ({name}) {end}");
        }
        End::Shutdown(_) => error!("{id}: {end} ({name} v{vcpu})"),
        End::Crash(_) => {
            error!("{id}: {end} ({name} v{vcpu})\n{}", Registers(regs));
            error!("{id}: {}", Trace::take(regs, &mut CurrentSpace));
        }
    }
    if !end.is_clean() && !domain.supervised {
        machine().any_crash.store(true, Ordering::Relaxed);
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
pub fn dispose(cpu: &mut Cpu, runner: Box<Runner>) {
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
