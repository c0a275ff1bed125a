//! Ways to stop. The hypervisor's log names the reason; a verdict line means that the domain went on.

use crate::check::{Told, fail};
use alloc::format;
use guest_kernel::hypercall;
use pv_abi::sched::*;

/// Done.
pub fn poweroff() -> Told {
    stop(SHUTDOWN_POWEROFF)
}

/// Start again.
pub fn reboot() -> Told {
    stop(SHUTDOWN_REBOOT)
}

/// Crashed.
pub fn crash() -> Told {
    stop(SHUTDOWN_CRASH)
}

/// Hung.
pub fn watchdog() -> Told {
    stop(SHUTDOWN_WATCHDOG)
}

fn stop(reason: u32) -> Told {
    let answer = hypercall::shutdown(reason);
    fail(&format!("shutdown({reason}) came back with {answer:?}"))
}
