//! `vcpu_op` (`vcpu.h`): vCPUs come up and go down, their timers, and the records they share with the hypervisor; and
//! `set_timer_op`, the older form of the one-shot timer.

use pv_abi::errno::Errno;
use pv_abi::shared_info::VcpuInfo as VcpuInfoAbi;
use pv_abi::vcpu::{
    SingleshotFlags, VCPUOP_DOWN, VCPUOP_GET_PHYSID, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE, VCPUOP_IS_UP,
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_VCPU_INFO, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA,
    VCPUOP_SEND_NMI, VCPUOP_SET_PERIODIC_TIMER, VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER,
    VCPUOP_STOP_SINGLESHOT_TIMER, VCPUOP_UP, VcpuGuestContext, VcpuRegisterMemoryArea, VcpuRegisterVcpuInfo,
    VcpuRunstateInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
};
use zerocopy::FromZeros;

use super::descriptors::take_gdt;
use super::mmuext::replace_root;
use super::{Call, Next, ParkedVcpu, Platform, Reply};
use crate::addr::{Mfn, PAGE_SIZE, VcpuId};
use crate::domain::areas;
use crate::domain::context::Context;
use crate::domain::timers::{MAX_PERIOD, MIN_PERIOD};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::domain::{End, ShutdownReason};
use crate::guest::check_span;
use crate::mm::perform::{Effects, Unfinished};

/// `(int cmd, unsigned int vcpuid, void *arg)`. A guest counts its vCPUs with `is_up`: -ENOENT ends the count.
pub(super) fn vcpu_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let id = VcpuId(call.u32(1));
    let events = call.platform.events().clone();
    let link = events.vcpu(id).ok_or(Errno::ENOENT)?;
    let own = id == call.vcpu.id;
    match call.u32(0) {
        VCPUOP_INITIALISE => initialise(call, id),
        VCPUOP_UP if !link.is_initialised() => Err(Errno::EINVAL.into()),
        VCPUOP_UP => {
            call.platform.bring_up(id);
            Ok(0)
        }
        VCPUOP_DOWN => {
            call.platform.take_down(id);
            // Nobody could bring one up again.
            let last = events.vcpus().iter().all(|vcpu| !vcpu.is_up());
            if last { Err(call.then(Next::End(End::Shutdown(ShutdownReason::Poweroff)))) } else { Ok(0) }
        }
        VCPUOP_IS_UP => Ok(link.is_up().into()),
        VCPUOP_GET_RUNSTATE_INFO => {
            let info = link.run_states(call.platform.now());
            call.write::<VcpuRunstateInfo>(call.word(2), &info)?;
            Ok(0)
        }
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => {
            let area: VcpuRegisterMemoryArea = call.read(call.word(2))?;
            check_span(area.addr, size_of::<VcpuRunstateInfo>())?;
            link.set_runstate_area(area.addr);
            // The area is left to the guest: what can't be written now is written when it can be.
            let info = link.run_states(call.platform.now());
            let _ = areas::write_run_states(call.platform, area.addr, info, false);
            Ok(0)
        }
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => {
            let area: VcpuRegisterMemoryArea = call.read(call.word(2))?;
            check_span(area.addr, size_of::<pv_abi::shared_info::VcpuTimeInfo>())?;
            link.set_time_area(area.addr);
            let record = call.platform.clock_record();
            let _ = areas::write_clock(call.platform, area.addr, &record);
            Ok(0)
        }
        VCPUOP_REGISTER_VCPU_INFO => register_info(call, id),
        VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER if !own => Err(Errno::EINVAL.into()),
        VCPUOP_SET_SINGLESHOT_TIMER => {
            let timer: VcpuSetSingleshotTimer = call.read(call.word(2))?;
            let late = timer.timeout_abs_ns < call.platform.now();
            if timer.flags & SingleshotFlags::FUTURE.bits() != 0 && late {
                return Err(Errno::ETIME.into());
            }
            call.vcpu.timers.set_once(timer.timeout_abs_ns);
            call.platform.timers_changed(call.vcpu);
            Ok(0)
        }
        VCPUOP_STOP_SINGLESHOT_TIMER => {
            call.vcpu.timers.stop_once();
            Ok(0)
        }
        VCPUOP_SET_PERIODIC_TIMER => {
            let VcpuSetPeriodicTimer { period_ns } = call.read(call.word(2))?;
            if !(MIN_PERIOD..=MAX_PERIOD).contains(&period_ns) {
                return Err(Errno::EINVAL.into());
            }
            change_period(call, id, Some(period_ns))
        }
        VCPUOP_STOP_PERIODIC_TIMER => change_period(call, id, None),
        VCPUOP_SEND_NMI if call.word(2) != 0 => Err(Errno::EINVAL.into()),
        VCPUOP_SEND_NMI => {
            link.send_nmi();
            call.platform.kick(link);
            Ok(0)
        }
        // For a domain that is pinned to CPUs and owns the machine.
        VCPUOP_GET_PHYSID => Err(Errno::EINVAL.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// `(uint64_t timeout)`: the one-shot timer, in system time; 0 stops it.
pub(super) fn set_timer_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    match call.word(0) {
        0 => call.vcpu.timers.stop_once(),
        at => {
            call.vcpu.timers.set_once(at);
            call.platform.timers_changed(call.vcpu);
        }
    }
    Ok(0)
}

/// Changes the periodic timer of a vCPU: here of the calling one and of one that is down; any other does it itself, soon.
fn change_period<P: Platform>(call: &mut Call<'_, P>, id: VcpuId, period: Option<u64>) -> Reply {
    let now = call.platform.now();
    let events = call.platform.events().clone();
    let link = events.vcpu(id).ok_or(Errno::ENOENT)?;
    if id == call.vcpu.id {
        // The last word counts.
        let _ = link.take_period();
        call.vcpu.timers.change_period(period, now);
        call.platform.timers_changed(call.vcpu);
    } else if let Some(mut parked) = call.platform.take_parked(id) {
        let _ = link.take_period();
        parked.vcpu().timers.change_period(period, now);
        call.platform.park(parked);
    } else {
        link.ask_for_period(period);
        call.platform.kick(link);
    }
    Ok(0)
}

/// Moves a vCPU's event flags to a page of the guest. Only once, for the calling vCPU or one that is down.
fn register_info<P: Platform>(call: &mut Call<'_, P>, id: VcpuId) -> Reply {
    let request: VcpuRegisterVcpuInfo = call.read(call.word(2))?;
    let offset = usize::try_from(request.offset).map_err(|_| Errno::EINVAL)?;
    if offset > PAGE_SIZE - size_of::<VcpuInfoAbi>() {
        return Err(Errno::EINVAL.into());
    }
    // One that straddled words would be read and written in parts (XSA-327).
    if !offset.is_multiple_of(align_of::<VcpuInfoAbi>()) {
        return Err(Errno::EINVAL.into());
    }
    let events = call.platform.events().clone();
    let link = events.vcpu(id).ok_or(Errno::ENOENT)?;
    if link.info_frame().is_some() {
        return Err(Errno::EBUSY.into());
    }
    // While it is worked on, a vCPU that is down can't come up.
    let parked = if id == call.vcpu.id { None } else { Some(call.platform.take_parked(id).ok_or(Errno::EINVAL)?) };
    let (mfn, owner) = (Mfn(request.mfn), call.vcpu.domain);
    let reply = match call.memory(|op, _| op.take_writable(mfn, owner)) {
        Ok(()) => {
            let info = call.platform.vcpu_info(mfn, offset);
            if link.move_info(mfn, info) {
                info.set_time(&call.platform.clock_record());
            } else {
                let _: Result<(), Unfinished> = call.memory(|op, _| {
                    op.put_writable(mfn);
                    Ok(())
                });
            }
            Ok(0)
        }
        Err(Unfinished::Again) => Err(call.again([])),
        Err(Unfinished::Refused(refused)) => {
            call.refuse("register_vcpu_info", refused);
            Err(Errno::EINVAL.into())
        }
    };
    match parked {
        Some(parked) => call.platform.park(parked),
        None => call.vcpu.info = link.info(),
    }
    reply
}

/// Gives a vCPU that never ran a state to start from.
fn initialise<P: Platform>(call: &mut Call<'_, P>, id: VcpuId) -> Reply {
    let mut context = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    call.read_into(call.word(2), &mut *context)?;
    let context = Context::check(context)?;
    // One that runs, or that another vCPU works on, is initialised or about to be.
    let mut parked = call.platform.take_parked(id).ok_or(Errno::EEXIST)?;
    let events = call.platform.events().clone();
    let reply = match events.vcpu(id) {
        Some(link) if !link.is_initialised() => {
            let mask = call.platform.cr4_mask();
            let filled = fill(call.platform, &mut call.budget, &context, mask, &mut parked);
            if filled.is_ok() {
                link.set_initialised();
            }
            call.filled("vCPU initialise", filled)
        }
        _ => Err(Errno::EEXIST.into()),
    };
    call.platform.park(parked);
    reply
}

impl<P: Platform> Call<'_, P> {
    /// What the guest is told of a [`fill`].
    pub(super) fn filled(&mut self, what: &str, filled: Result<(), Unfinished>) -> Reply {
        match filled {
            Ok(()) => Ok(0),
            Err(Unfinished::Again) => Err(self.again([])),
            Err(Unfinished::Refused(refused)) => {
                self.refuse(what, refused);
                Err(Errno::EINVAL.into())
            }
        }
    }
}

/// Fills a vCPU of a domain in, memory first. When that is refused the vCPU is as before; when it is interrupted it keeps
/// what it has, and the restarted call replaces that if the caller has changed its mind.
pub(super) fn fill<E: Effects, V: ParkedVcpu>(
    domain: &mut E,
    budget: &mut u32,
    context: &Context,
    cr4_mask: u64,
    parked: &mut V,
) -> Result<(), Unfinished> {
    let vcpu = parked.vcpu();
    let taken = take_memory(domain, budget, context, vcpu);
    if let Err(why) = taken {
        if let Unfinished::Refused(_) = why {
            // Dropping is never refused, and what it asks for is done when the vCPU next does something.
            let _ = replace_root(vcpu, domain, budget, Mode::User, None);
            let _ = replace_root(vcpu, domain, budget, Mode::Kernel, None);
        }
        return Err(why);
    }
    let cpu = context.fill(parked.vcpu(), cr4_mask);
    parked.load(&cpu);
    Ok(())
}

/// Takes the page tables and the GDT that a context names.
fn take_memory<E: Effects>(
    domain: &mut E,
    budget: &mut u32,
    context: &Context,
    vcpu: &mut Vcpu,
) -> Result<(), Unfinished> {
    let (kernel, user) = context.roots();
    replace_root(vcpu, domain, budget, Mode::Kernel, Some(kernel))?;
    replace_root(vcpu, domain, budget, Mode::User, user)?;
    vcpu.gdt = take_gdt(vcpu, domain, budget, context.gdt())?;
    Ok(())
}
