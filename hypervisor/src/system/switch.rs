//! The vCPU switch: taking a vCPU off this CPU, and putting another one on it.

use alloc::boxed::Box;
use alloc::sync::Arc;

use pv_abi::trap::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

use super::cpu::Cpu;
use super::end::{dispose, end_current};
use super::queues::{board, dismiss, put_back, queue, settle};
use super::runner::Runner;
use super::{Domain, descriptors, flush};
use crate::arch::vcpu::CurrentSpace;
use crate::arch::{self, barriers, percpu, time};
use crate::bounce;
use crate::domain::End;
use crate::domain::areas::{write_clock, write_run_states};
use crate::domain::link::{Activity, VcpuLink};
use crate::domain::runstate::RunState;
use crate::domain::vcpu::Vcpu;
use crate::guest::GuestRegisters;

/// Where a vCPU goes that leaves its CPU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Among those that are ready.
    Queue { yields: bool },
    /// To sleep, with an optional deadline, its timers apart.
    Sleep(Option<u64>),
    /// Among those that may not run, or to a CPU that it may use.
    Park,
}

/// Takes the current vCPU off the CPU.
pub fn leave_cpu(cpu: &mut Cpu, regs: &GuestRegisters, to: To) {
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

/// May this vCPU run on this CPU?
pub fn may_run_here(runner: &Runner) -> bool {
    runner.domain.may_run(runner.link()) && runner.account.allowed().contains(percpu::cpu())
}

/// Puts a vCPU on the CPU.
pub fn enter_cpu(cpu: &mut Cpu, regs: &mut GuestRegisters, mut runner: Box<Runner>) {
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
    if cpu.translations.as_ref().is_none_or(|(last, _)| !Arc::ptr_eq(last, domain)) {
        barriers::forget_branches();
    }
    domain.cpus.insert(here);
    arch::vcpu::load_root(vcpu.root());
    forget_translations(cpu, Some(domain));
    cpu.translations = Some((domain.clone(), vcpu.id));
}

/// Flushes, and says that the CPU holds no translations of the latest domain any more, unless that is `next` too.
pub fn forget_translations(cpu: &mut Cpu, next: Option<&Arc<Domain>>) {
    flush::flush_here();
    if let Some((last, _)) = cpu.translations.take()
        && next.is_none_or(|next| !Arc::ptr_eq(&last, next))
    {
        last.cpus.remove(percpu::cpu());
    }
}
