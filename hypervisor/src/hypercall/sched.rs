//! `sched_op`: giving up the CPU, and ending (`sched.h`).

use pv_abi::errno::Errno;
use pv_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};

use super::{Call, Next, Platform, Reply};
use crate::bounce::Return;
use crate::domain::{End, ShutdownReason};

/// Most ports of one poll, as in Xen.
const MAX_POLL_PORTS: u32 = 128;

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
    if request.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::EINVAL.into());
    }
    let awake = Next::Resume(Return::RcxR11Free);
    if call.vcpu.info.upcall_due() {
        return Err(call.then(awake));
    }
    for index in 0..u64::from(request.nr_ports) {
        let port: u32 = call.read(request.ports.wrapping_add(4 * index))?;
        // No port is bound to anything yet, so one outside the bitmap is all that can be wrong with it.
        if call.platform.events().shared.is_pending(port).ok_or(Errno::EINVAL)? {
            return Err(call.then(awake));
        }
    }
    let until = (request.timeout != 0).then_some(request.timeout);
    if until.is_some_and(|until| until <= call.platform.now()) {
        return Err(call.then(awake));
    }
    Err(call.then(Next::Poll { until }))
}
