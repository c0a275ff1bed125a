//! Event channels: what the calls accept and refuse, and how events are delivered.

pub mod arguments;
pub mod attack;
pub mod bits;
pub mod fifo;
pub mod fifo_calls;
pub mod interdomain;
pub mod many;
pub mod moves;
pub mod poll;
pub mod ports;
pub mod upcall;
pub mod virq;

use crate::check::Ending;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::hypercall;
use guest_kernel::record::{Page, Record};
use guest_kernel::{event, shared, smp, vcpu};
use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;

/// A port number beyond all that can be.
const FAR: u32 = 1 << 20;
/// A vCPU that no domain has.
const NOBODY: u32 = 8191;
/// A domain that isn't there.
const STRANGER: u16 = 0x7000;

/// The shared page.
fn page() -> Result<&'static Page, Ending> {
    shared::page().ok_or_else(|| Ending::Fail("the shared page isn't mapped".into()))
}

/// This vCPU's record.
fn record() -> Result<&'static Record, Ending> {
    shared::record().ok_or_else(|| Ending::Fail("the shared page isn't mapped".into()))
}

/// What a call should not have refused.
pub fn refusal(errno: Errno) -> Ending {
    Ending::Fail(alloc::format!("refused with {errno:?}"))
}

/// An unbound port that this domain may connect to.
fn unbound() -> Result<u32, Ending> {
    hypercall::alloc_unbound(DOMID_SELF, DOMID_SELF).map_err(refusal)
}

/// Sets up events, and starts vCPUs until `count` run.
pub fn start(count: u32) -> Result<(), Ending> {
    if vcpu::count() < count {
        return Err(Ending::Skip("not enough vCPUs".into()));
    }
    event::init().map_err(refusal)?;
    smp::start(count).map_err(|error| Ending::Fail(alloc::format!("starting vCPUs: {error}")))
}

/// Events handled by [`count`].
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A handler that counts.
fn count(_port: u32) {
    COUNT.fetch_add(1, SeqCst);
}

fn counted() -> u32 {
    COUNT.load(SeqCst)
}
