//! `sched_op` and `set_timer_op`: giving the CPU away, sleeping, ending. Header: `sched.h`.

use super::{Answer, call};
use pv_abi::hypercall as number;
use pv_abi::sched::{SCHEDOP_BLOCK, SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll, SchedShutdown};

/// Lets other vCPUs run (`SCHEDOP_yield`).
pub fn yield_now() -> Answer {
    // SAFETY: the call has no argument.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]) }
}

/// Unmasks event upcalls and sleeps until one is due, in one step (`SCHEDOP_block`). Without an event callback the
/// upcall is the domain's end.
pub fn block() -> Answer {
    // SAFETY: the call has no argument.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_BLOCK), 0, 0, 0, 0]) }
}

/// Sleeps until one of `ports` is pending or system time reaches `timeout` nanoseconds; 0 means no limit
/// (`SCHEDOP_poll`).
pub fn poll(ports: &[u32], timeout: u64) -> Answer {
    let nr_ports = u32::try_from(ports.len()).unwrap_or(u32::MAX);
    let poll = SchedPoll { ports: ports.as_ptr() as u64, nr_ports, _pad: 0, timeout };
    // SAFETY: the call only reads the structure and the ports.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_POLL), (&raw const poll) as u64, 0, 0, 0]) }
}

/// Stops the domain for one of the ABI's `SHUTDOWN_*` reasons (`SCHEDOP_shutdown`). The answer is an error if there is
/// one at all.
pub fn shutdown(reason: u32) -> Answer {
    let shutdown = SchedShutdown { reason };
    // SAFETY: the call only reads the structure.
    unsafe { call(number::SCHED_OP, [u64::from(SCHEDOP_SHUTDOWN), (&raw const shutdown) as u64, 0, 0, 0]) }
}

/// Starts this vCPU's one-shot timer for system time `timeout`, in nanoseconds; 0 stops it (`set_timer_op`).
pub fn set_timer(timeout: u64) -> Answer {
    // SAFETY: the call has no memory argument.
    unsafe { call(number::SET_TIMER_OP, [timeout, 0, 0, 0, 0]) }
}
