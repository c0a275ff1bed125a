//! Events to the vCPU that sends them, and its timer.

use crate::meter::{Effort, Measured};
use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::hypercall::{self, raw};
use guest_kernel::{event, shared, time};
use pv_abi::errno::Errno;
use pv_abi::event::{EVTCHNOP_SEND, EvtchnPort};
use pv_abi::hypercall as number;

/// `send` to a port of its own that is masked: nobody has to look. It wasn't pending before.
pub fn send_masked(effort: Effort) -> Measured {
    let page = shared::page().ok_or(Errno::ENOSYS)?;
    let port = hypercall::bind_ipi(0)?;
    let (word, bit) = (&page.pending[port as usize / 64], 1 << (port % 64));
    let measured = effort.count(1, || {
        word.fetch_and(!bit, SeqCst);
        send(&EvtchnPort { port })
    });
    event::close(port)?;
    measured
}

/// `send` to a port of its own that isn't masked: to the guest kernel's handler and back.
pub fn send_upcall(effort: Effort) -> Measured {
    let port = event::bind_ipi(0, |_| {})?;
    event::enable();
    let measured = effort.count(1, || send(&EvtchnPort { port }));
    event::disable();
    event::close(port)?;
    measured
}

/// `set_timer_op`, each time for a little later, as a kernel does that has its next timer far off.
pub fn set_timer(effort: Effort) -> Measured {
    const FAR: u64 = 3_600_000_000_000;
    let mut at = time::now().ok_or(Errno::ENOSYS)? + FAR;
    let call = |at| {
        // SAFETY: the call has no memory argument.
        unsafe { raw(u64::from(number::SET_TIMER_OP), [at, 0, 0, 0, 0]) }
    };
    let measured = effort.count(1, || {
        at += 1000;
        call(at)
    });
    call(0);
    measured
}

/// `send`, with the argument in memory.
fn send(argument: &EvtchnPort) -> i64 {
    let address = core::ptr::from_ref(argument) as u64;
    // SAFETY: the call only reads its argument.
    unsafe { raw(u64::from(number::EVENT_CHANNEL_OP), [u64::from(EVTCHNOP_SEND), address, 0, 0, 0]) }
}
