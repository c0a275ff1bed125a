//! `sched_op`: giving up the CPU, and ending (`sched.h`).

use pv_abi::errno::Errno;
use pv_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};
use zerocopy::IntoBytes;

use super::{Call, Next, Platform, Reply};
use crate::bounce::Return;
use crate::domain::{End, ShutdownReason};

/// Most ports of one poll, as in Xen.
const MAX_POLL_PORTS: usize = 128;

/// `(int cmd, void *arg)`.
pub(super) fn sched_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    match call.u32(0) {
        SCHEDOP_YIELD => Err(call.then(Next::Yield)),
        SCHEDOP_BLOCK => {
            // The guest asks to sleep with its interrupts on; what is pending already wakes it at once.
            call.vcpu.info.set_upcall_mask(false);
            let next = if call.vcpu.info.upcall_due() { Next::Resume(Return::RcxR11Free) } else { Next::Block };
            Err(call.then(next))
        }
        SCHEDOP_SHUTDOWN => {
            let request: SchedShutdown = call.read(call.word(1))?;
            match ShutdownReason::from_abi(request.reason) {
                // Nobody could resume it.
                Some(ShutdownReason::Suspend | ShutdownReason::SoftReset) => Err(Errno::EOPNOTSUPP.into()),
                Some(reason) => Err(call.then(Next::End(End::Shutdown(reason)))),
                None => Err(Errno::EINVAL.into()),
            }
        }
        SCHEDOP_POLL => poll(call),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// Waits until one of some ports is pending, masked or not, or a time has come.
fn poll<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let request: SchedPoll = call.read(call.word(1))?;
    let mut ports = [0u32; MAX_POLL_PORTS];
    let count = usize::try_from(request.nr_ports).map_err(|_| Errno::EINVAL)?;
    let ports = ports.get_mut(..count).ok_or(Errno::EINVAL)?;
    if !ports.is_empty() {
        call.platform.read_bytes(request.ports, ports.as_mut_bytes())?;
    }
    let id = call.vcpu.id;
    let single = if let [port] = ports { Some(*port) } else { None };
    // From now on a port that becomes pending is noticed; those that are already are found below.
    call.platform.events().begin_poll(id, single);
    let waits = must_wait(call, ports, request.timeout);
    if waits != Ok(true) {
        call.platform.events().end_poll(id);
    }
    let until = (request.timeout != 0).then_some(request.timeout);
    Err(call.then(if waits? { Next::Poll { until } } else { Next::Resume(Return::RcxR11Free) }))
}

/// Is there nothing that a poll waits for?
fn must_wait<P: Platform>(call: &mut Call<'_, P>, ports: &[u32], timeout: u64) -> Result<bool, Errno> {
    if call.vcpu.info.upcall_due() {
        return Ok(false);
    }
    for &port in ports {
        if call.platform.events().is_pending(port)? {
            return Ok(false);
        }
    }
    Ok(timeout == 0 || timeout > call.platform.now())
}
