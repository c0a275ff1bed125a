//! `event_channel_op` (`event_channel.h`). The rules are in [`event`](crate::event).

use alloc::sync::Arc;

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::{
    EVTCHN_FIFO_LINK_BITS, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ,
    EVTCHNOP_BIND_VCPU, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
    EVTCHNOP_RESET, EVTCHNOP_SEND, EVTCHNOP_SET_PRIORITY, EVTCHNOP_STATUS, EVTCHNOP_UNMASK, EvtchnAllocUnbound,
    EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindPirq, EvtchnBindVcpu, EvtchnBindVirq, EvtchnExpandArray,
    EvtchnInitControl, EvtchnPort, EvtchnReset, EvtchnSetPriority, EvtchnStatus, VIRQ_TIMER,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::target::Target;
use super::{Call, Otherwise, Platform, Reply};
use crate::addr::{DomainId, Mfn, VcpuId};
use crate::event::{Closing, Events};
use crate::mm::perform::Unfinished;

/// `(int cmd, void *arg)`.
pub(super) fn event_channel_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    // The one that is made all the time.
    if call.u32(0) == EVTCHNOP_SEND {
        return send(call, call.word(1));
    }
    operation(call, call.u32(0), call.word(1))
}

/// `(struct evtchn_op *op)`: the first form, which has the command in front of its struct.
pub(super) fn event_channel_op_compat<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let address = call.word(0);
    let command: u32 = call.read(address)?;
    if command > EVTCHNOP_UNMASK {
        return Err(Errno::ENOSYS.into());
    }
    operation(call, command, address.wrapping_add(4))
}

#[inline(never)]
fn operation<P: Platform>(call: &mut Call<'_, P>, command: u32, address: u64) -> Reply {
    match command {
        EVTCHNOP_SEND => send(call, address),
        EVTCHNOP_UNMASK => unmask(call, address),
        EVTCHNOP_BIND_INTERDOMAIN => bind_interdomain(call, address),
        EVTCHNOP_BIND_VIRQ => bind_virq(call, address),
        EVTCHNOP_BIND_PIRQ => bind_pirq(call, address),
        EVTCHNOP_CLOSE => close(call, address),
        EVTCHNOP_STATUS => status(call, address),
        EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(call, address),
        EVTCHNOP_BIND_IPI => bind_ipi(call, address),
        EVTCHNOP_BIND_VCPU => bind_vcpu(call, address),
        EVTCHNOP_RESET => reset(call, address),
        EVTCHNOP_INIT_CONTROL => init_control(call, address),
        EVTCHNOP_EXPAND_ARRAY => expand_array(call, address),
        EVTCHNOP_SET_PRIORITY => set_priority(call, address),
        _ => Err(Errno::ENOSYS.into()),
    }
}

#[inline]
fn send<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnPort { port } = call.read(address)?;
    let wake = call.platform.events().send(port)?;
    wake.kick(call.platform);
    Ok(0)
}

#[inline(never)]
fn unmask<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnPort { port } = call.read(address)?;
    let wake = call.platform.events().unmask(port)?;
    wake.kick(call.platform);
    Ok(0)
}

#[inline(never)]
fn bind_interdomain<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnBindInterdomain = call.read(address)?;
    let own = call.platform.events().clone();
    // No privilege is needed: the other port says who may connect.
    let remote = other_events(call, request.remote_dom)?;
    let (port, wake) = own.bind_interdomain(&remote, request.remote_port)?;
    wake.kick(call.platform);
    tell_port(call, &own, port, address, EvtchnBindInterdomain { local_port: port, ..request })
}

#[inline(never)]
fn bind_virq<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnBindVirq = call.read(address)?;
    let own = call.platform.events().clone();
    let port = own.bind_virq(request.virq, VcpuId(request.vcpu))?;
    // Until now nobody would have heard of a timer: it was not set, and what has passed is lost.
    if (request.virq, request.vcpu) == (VIRQ_TIMER, call.vcpu.id.0) {
        let now = call.platform.now();
        call.vcpu.timers.expire(now);
        call.platform.timers_changed(call.vcpu);
    }
    tell_port(call, &own, port, address, EvtchnBindVirq { port, ..request })
}

/// For the domain that has the hardware. Whether the line may be shared doesn't matter: nobody else has it.
#[inline(never)]
fn bind_pirq<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnBindPirq = call.read(address)?;
    let hardware = call.platform.hardware().cloned().ok_or(Errno::EPERM)?;
    let own = call.platform.events().clone();
    let port = hardware.interrupts.bind(request.pirq)?;
    tell_port(call, &own, port, address, EvtchnBindPirq { port, ..request })
}

#[inline(never)]
fn close<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnPort { port } = call.read(address)?;
    call.platform.events().close(port)?;
    silence(call);
    Ok(0)
}

#[inline(never)]
fn status<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnStatus { dom, port, .. } = call.read(address)?;
    let events = named_events(call, dom)?;
    call.write(address, &EvtchnStatus { dom, port, ..events.status(port)? })?;
    Ok(0)
}

#[inline(never)]
fn alloc_unbound<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnAllocUnbound = call.read(address)?;
    let events = named_events(call, request.dom)?;
    let remote = if request.remote_dom == DOMID_SELF { call.vcpu.domain } else { DomainId(request.remote_dom) };
    let port = events.alloc_unbound(remote)?;
    tell_port(call, &events, port, address, EvtchnAllocUnbound { port, ..request })
}

#[inline(never)]
fn bind_ipi<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnBindIpi = call.read(address)?;
    let own = call.platform.events().clone();
    let port = own.bind_ipi(VcpuId(request.vcpu))?;
    tell_port(call, &own, port, address, EvtchnBindIpi { port, ..request })
}

#[inline(never)]
fn bind_vcpu<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnBindVcpu { port, vcpu } = call.read(address)?;
    call.platform.events().bind_vcpu(port, VcpuId(vcpu))?;
    Ok(0)
}

/// Closes all ports and goes back to 2-level delivery. Those of another domain, with privilege over it, only while that is
/// paused: as in Xen, so that the domain doesn't see half of it.
#[inline(never)]
fn reset<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnReset { dom } = call.read(address)?;
    let events = named_events(call, dom)?;
    if events.domain != call.vcpu.domain {
        let facts = call.target(events.domain)?.facts();
        if facts.dying {
            return Err(Errno::ESRCH.into());
        }
        if !facts.paused {
            return Err(Errno::EINVAL.into());
        }
    }
    if !events.close_all(Closing::Reset, &mut call.budget) {
        return Err(call.again([]));
    }
    silence(call);
    while let Some(mfn) = events.take_frame() {
        put_writable(call, mfn)?;
    }
    Ok(0)
}

#[inline(never)]
fn init_control<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let request: EvtchnInitControl = call.read(address)?;
    let (vcpu, mfn) = (VcpuId(request.vcpu), Mfn(request.control_gfn));
    let own = call.platform.events().clone();
    own.check_control(vcpu, request.offset)?;
    take_writable(call, mfn)?;
    if let Err(errno) = own.init_control(vcpu, mfn, request.offset) {
        put_writable(call, mfn)?;
        return Err(errno.into());
    }
    let [link_bits, ..] = EVTCHN_FIFO_LINK_BITS.to_le_bytes();
    call.write(address, &EvtchnInitControl { link_bits, ..request })?;
    Ok(0)
}

#[inline(never)]
fn expand_array<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnExpandArray { array_gfn } = call.read(address)?;
    let mfn = Mfn(array_gfn);
    let own = call.platform.events().clone();
    own.check_expand()?;
    take_writable(call, mfn)?;
    match own.expand_array(mfn) {
        Ok(wake) => {
            wake.kick(call.platform);
            Ok(0)
        }
        Err(errno) => {
            put_writable(call, mfn)?;
            Err(errno.into())
        }
    }
}

#[inline(never)]
fn set_priority<P: Platform>(call: &mut Call<'_, P>, address: u64) -> Reply {
    let EvtchnSetPriority { port, priority } = call.read(address)?;
    call.platform.events().set_priority(port, priority)?;
    Ok(0)
}

/// A port was closed: if an interrupt came to it, that is masked.
fn silence<P: Platform>(call: &Call<'_, P>) {
    if let Some(hardware) = call.platform.hardware() {
        hardware.interrupts.prune();
    }
}

/// The events of a domain, whatever the caller's privileges.
fn other_events<P: Platform>(call: &mut Call<'_, P>, named: u16) -> Result<Arc<Events>, Errno> {
    let own = call.platform.events();
    if named == DOMID_SELF || named == own.domain.0 {
        return Ok(own.clone());
    }
    call.platform.events_of(DomainId(named)).ok_or(Errno::ESRCH)
}

/// The events of a domain that the caller may change: its own, or any if it is privileged.
fn named_events<P: Platform>(call: &mut Call<'_, P>, named: u16) -> Result<Arc<Events>, Errno> {
    let events = other_events(call, named)?;
    let may = events.domain == call.vcpu.domain || call.platform.events().rights.privileged;
    if may { Ok(events) } else { Err(Errno::EPERM) }
}

/// Writes the request back with the new port in it. One that the guest can't be told of is closed again.
fn tell_port<P: Platform>(
    call: &mut Call<'_, P>,
    events: &Events,
    port: u32,
    address: u64,
    request: impl IntoBytes + FromBytes + Immutable,
) -> Reply {
    if let Err(errno) = call.write(address, &request) {
        // Another vCPU may have guessed it, and closed it already.
        let _: Result<(), Errno> = events.close(port);
        silence(call);
        return Err(errno.into());
    }
    Ok(0)
}

/// Takes a frame of the caller's for events to be written to.
fn take_writable<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn) -> Result<(), Otherwise> {
    let owner = call.vcpu.domain;
    match call.memory(|op, _| op.take_writable(mfn, owner)) {
        Ok(()) => Ok(()),
        Err(Unfinished::Again) => Err(call.again([])),
        Err(Unfinished::Refused(refused)) => {
            call.refuse("event_channel_op", refused);
            Err(Errno::EINVAL.into())
        }
    }
}

/// Gives it back.
fn put_writable<P: Platform>(call: &mut Call<'_, P>, mfn: Mfn) -> Result<(), Otherwise> {
    let done = call.memory(|op, _| {
        op.put_writable(mfn);
        Ok(())
    });
    done.map_err(|_| Errno::EINVAL.into())
}
