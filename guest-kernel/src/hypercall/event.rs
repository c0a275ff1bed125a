//! `event_channel_op`: ports and what is behind them. Header: `event_channel.h`.

use super::{Answer, call};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::event::*;
use pv_abi::hypercall as number;

/// Any operation on its argument, in which the results land.
///
/// # Safety
/// `T` is the structure that the ABI names for `command`; frames that it names are the caller's to give.
pub unsafe fn event_channel_op<T>(command: u32, argument: &mut T) -> Answer {
    // SAFETY: the call writes the structure only; the rest is the caller's promise.
    unsafe { call(number::EVENT_CHANNEL_OP, [u64::from(command), (&raw mut *argument) as u64, 0, 0, 0]) }
}

/// Makes an operation whose results are its argument, then.
fn op<T>(command: u32, mut argument: T) -> Result<T, Errno> {
    // SAFETY: the callers below pair command and structure as the header does, and none of them names a frame.
    unsafe { event_channel_op(command, &mut argument) }.map(|_| argument)
}

/// A new port of domain `dom` for `remote_dom` to connect to (`alloc_unbound`).
pub fn alloc_unbound(dom: u16, remote_dom: u16) -> Result<u32, Errno> {
    op(EVTCHNOP_ALLOC_UNBOUND, EvtchnAllocUnbound { dom, remote_dom, port: 0 }).map(|done| done.port)
}

/// A new port connected to a domain's unbound one (`bind_interdomain`).
pub fn bind_interdomain(remote_dom: u16, remote_port: u32) -> Result<u32, Errno> {
    let argument = EvtchnBindInterdomain { remote_dom, remote_port, ..Default::default() };
    op(EVTCHNOP_BIND_INTERDOMAIN, argument).map(|done| done.local_port)
}

/// A new port for a virtual interrupt (`bind_virq`).
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<u32, Errno> {
    op(EVTCHNOP_BIND_VIRQ, EvtchnBindVirq { virq, vcpu, port: 0 }).map(|done| done.port)
}

/// A new port whose events go to `vcpu`, for whoever sends them in the domain (`bind_ipi`).
pub fn bind_ipi(vcpu: u32) -> Result<u32, Errno> {
    op(EVTCHNOP_BIND_IPI, EvtchnBindIpi { vcpu, port: 0 }).map(|done| done.port)
}

/// A new port for a physical interrupt (`bind_pirq`).
pub fn bind_pirq(pirq: u32) -> Result<u32, Errno> {
    op(EVTCHNOP_BIND_PIRQ, EvtchnBindPirq { pirq, flags: BIND_PIRQ_WILL_SHARE, port: 0 }).map(|done| done.port)
}

/// Closes a port (`close`).
pub fn close_port(port: u32) -> Result<(), Errno> {
    op(EVTCHNOP_CLOSE, EvtchnPort { port }).map(drop)
}

/// Sends an event (`send`).
pub fn send(port: u32) -> Result<(), Errno> {
    op(EVTCHNOP_SEND, EvtchnPort { port }).map(drop)
}

/// What a port of the domain is (`status`).
pub fn port_status(port: u32) -> Result<EvtchnStatus, Errno> {
    op(EVTCHNOP_STATUS, EvtchnStatus { dom: DOMID_SELF, port, ..Default::default() })
}

/// Moves a port's events to another vCPU (`bind_vcpu`).
pub fn bind_vcpu(port: u32, vcpu: u32) -> Result<(), Errno> {
    op(EVTCHNOP_BIND_VCPU, EvtchnBindVcpu { port, vcpu }).map(drop)
}

/// Unmasks a port, and delivers what is pending (`unmask`).
pub fn unmask_port(port: u32) -> Result<(), Errno> {
    op(EVTCHNOP_UNMASK, EvtchnPort { port }).map(drop)
}

/// Closes all ports of the domain, and goes back to 2-level delivery (`reset`).
pub fn reset_ports(dom: u16) -> Result<(), Errno> {
    op(EVTCHNOP_RESET, EvtchnReset { dom }).map(drop)
}

/// Registers a vCPU's FIFO control block; the answer is the width of links in bits (`init_control`).
///
/// # Safety
/// The hypervisor writes there from now on, until the domain's ports are reset.
pub unsafe fn init_control(control_gfn: u64, offset: u32, vcpu: u32) -> Result<u8, Errno> {
    let argument = EvtchnInitControl { control_gfn, offset, vcpu, ..Default::default() };
    op(EVTCHNOP_INIT_CONTROL, argument).map(|done| done.link_bits)
}

/// Adds a page of 1024 FIFO event words (`expand_array`).
///
/// # Safety
/// As for [`init_control`].
pub unsafe fn expand_array(array_gfn: u64) -> Result<(), Errno> {
    op(EVTCHNOP_EXPAND_ARRAY, EvtchnExpandArray { array_gfn }).map(drop)
}

/// Sets a port's FIFO priority, 0 the most urgent, 15 the least (`set_priority`).
pub fn set_priority(port: u32, priority: u32) -> Result<(), Errno> {
    op(EVTCHNOP_SET_PRIORITY, EvtchnSetPriority { port, priority }).map(drop)
}
