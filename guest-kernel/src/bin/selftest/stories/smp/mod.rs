//! Several vCPUs in one domain.

pub mod attack;
pub mod bring_up;
pub mod flush;
pub mod fpu;
pub mod ipi;
pub mod life;
pub mod lock;
pub mod nmi;
pub mod record;
pub mod threads;

use super::event::start;
use crate::check::{Ending, fail, skip};
use guest_kernel::{hypercall, time, vcpu};

/// As many vCPUs as stories use.
fn vcpus() -> u32 {
    vcpu::count().min(8)
}

/// Starts all vCPUs; a story about several is skipped with one.
fn start_all() -> Result<u32, Ending> {
    if vcpus() < 2 {
        skip("one vCPU")?;
    }
    start(vcpus())?;
    Ok(vcpus())
}

/// Yields until `done`, a minute at most: the host may be busy.
pub fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<(), Ending> {
    let limit = time::now().unwrap_or(0) + 60_000_000_000;
    while !done() {
        if time::now().is_none_or(|now| now > limit) {
            fail(&alloc::format!("waited in vain: {what}"))?;
        }
        let _ = hypercall::yield_now();
    }
    Ok(())
}
