//! `sched_op`: yield and poll, and what must not stop the domain.

use crate::check::{Told, call, equal, fail, holds, reads, refused, refuses_bad_pointers, skip, writes};
use guest_kernel::start::command_line;
use guest_kernel::{cmdline, hypercall, println, time};
use pv_abi::errno::Errno;
use pv_abi::hypercall::{SCHED_OP, VCPU_OP};
use pv_abi::sched::{SCHEDOP_POLL, SCHEDOP_SHUTDOWN, SCHEDOP_YIELD, SchedPoll};
use pv_abi::vcpu::{VCPUOP_GET_RUNSTATE_INFO, VcpuRunstateInfo};

const POLL: u64 = SCHEDOP_POLL as u64;
const MILLISECOND: u64 = 1_000_000;

/// Yielding returns.
pub fn yielding() -> Told {
    (0..100).try_for_each(|_| equal("yield", call(SCHED_OP, [u64::from(SCHEDOP_YIELD)]), Ok(0)))
}

/// A poll without ports sleeps until its time, and not much longer.
pub fn poll_timeout() -> Told {
    let Some(start) = time::now() else { return skip("no clock") };
    equal("poll for 50 ms", hypercall::poll(&[], start + 50 * MILLISECOND), Ok(0))?;
    let slept = time::now().unwrap_or(0).saturating_sub(start);
    println!("slept {slept} ns of 50000000");
    // Xen lets timers that lie within 50 us of each other expire together.
    holds("woke early", slept >= 50 * MILLISECOND - 50_000)?;
    // Generous: the machine under the test may be a busy one.
    holds("woke late", slept < 10_000 * MILLISECOND)
}

/// A poll whose time has passed returns at once.
pub fn poll_past() -> Told {
    let Some(start) = time::now() else { return skip("no clock") };
    for timeout in [1, start] {
        equal("poll", hypercall::poll(&[], timeout), Ok(0))?;
    }
    holds("slept", time::now().unwrap_or(u64::MAX) - start < 10_000 * MILLISECOND)
}

/// Bad poll arguments.
pub fn poll_bad() -> Told {
    let ports = [1u32; 200];
    let poll = |ports: u64, nr_ports: u32| {
        let poll = SchedPoll { ports, nr_ports, _pad: 0, timeout: 1 };
        call(SCHED_OP, [POLL, reads(&poll)])
    };
    refused("129 ports", poll(reads(&ports), 129), Errno::EINVAL)?;
    refused("the most ports", poll(reads(&ports), u32::MAX), Errno::EINVAL)?;
    refuses_bad_pointers("ports", |pointer| poll(pointer, 1))?;
    let wild = [u32::MAX];
    refused("a port beyond the last", poll(reads(&wild), 1), Errno::EINVAL)?;
    refuses_bad_pointers("argument", |pointer| call(SCHED_OP, [POLL, pointer]))
}

/// Unknown commands, and a shutdown whose reason can't be read.
pub fn bad() -> Told {
    for command in [8, 99, u64::from(u32::MAX)] {
        refused("unknown command", call(SCHED_OP, [command, 0]), Errno::ENOSYS)?;
    }
    refuses_bad_pointers("shutdown", |pointer| call(SCHED_OP, [u64::from(SCHEDOP_SHUTDOWN), pointer]))
}

/// Keeps the CPU busy from one system time to another, both on the command line in milliseconds, and says how much of it
/// this vCPU had.
pub fn cpu_share() -> Told {
    let time = |name| cmdline::option(command_line(), name)?.parse().ok().map(|time: u64| time * MILLISECOND);
    let (Some(from), Some(to)) = (time("from"), time("to")) else { return fail("from= and to= are missing") };
    holds("too late", time::now().is_some_and(|now| now < from))?;
    let [before, after] = [from, to].map(|end| {
        while time::now().is_some_and(|now| now < end) {
            core::hint::spin_loop();
        }
        let mut info = VcpuRunstateInfo::default();
        call(VCPU_OP, [u64::from(VCPUOP_GET_RUNSTATE_INFO), 0, writes(&mut info)]).map(|_| info.time)
    });
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let [ran, waited, slept, down] = core::array::from_fn(|state| after[state] - before[state]);
    equal("time asleep and down", (slept, down), (0, 0))?;
    println!("ran {} of {} us", ran / 1000, (ran + waited) / 1000);
    Ok(())
}

/// Keeps the CPU for good, for tests of what else may have it.
pub fn spin() -> Told {
    println!("spinning");
    loop {
        core::hint::spin_loop();
    }
}
