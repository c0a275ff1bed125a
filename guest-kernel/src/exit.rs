//! Ends: shutdown, and a test kernel's verdict.

use crate::start::start_info;
use crate::verdict::{Outcome, Verdict};
use crate::{hypercall, println, probe};
use pv_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};
use pv_abi::start_info::StartFlags;

/// QEMU's `isa-debug-exit` port, where the test machines have it.
const DEBUG_EXIT_PORT: u16 = 0xf4;

/// Prints the verdict line and ends the domain, and the whole machine where this is the first domain of one that has
/// the exit device.
pub fn finish(verdict: &Verdict<'_>) -> ! {
    println!("{verdict}");
    if StartFlags::from_bits_retain(start_info().flags).contains(StartFlags::INITDOMAIN) {
        leave_machine(verdict.outcome);
    }
    shutdown(if verdict.outcome == Outcome::Fail { SHUTDOWN_CRASH } else { SHUTDOWN_POWEROFF })
}

/// Writes to the exit device, if the hypervisor lets this domain use ports.
fn leave_machine(outcome: Outcome) {
    if hypercall::set_iopl(3).is_ok() {
        // SAFETY: the port belongs to the exit device or to none.
        let _ = unsafe { probe::outb(DEBUG_EXIT_PORT, outcome.exit_code()) };
    }
}

/// Stops the domain for one of the ABI's `SHUTDOWN_*` reasons. If the hypervisor doesn't, a `ud2` makes it.
pub fn shutdown(reason: u32) -> ! {
    let _ = hypercall::shutdown(reason);
    panic!("shutdown({reason}) came back");
}
