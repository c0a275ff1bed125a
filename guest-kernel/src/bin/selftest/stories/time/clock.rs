//! System time.

use crate::check::{Told, equal, holds};
use crate::stories::event::{refusal, start};
use crate::stories::mmu::ground::Page;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_kernel::{hypercall, println, shared, smp, time, vcpu};

/// No vCPU ever reads a time before one that any vCPU has read.
pub fn monotonic() -> Told {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let count = vcpu::count().min(8);
    start(count)?;
    let backwards = smp::everywhere(count, |_| {
        let mut worst = 0;
        for round in 0..30_000 {
            let latest = LATEST.load(SeqCst);
            let now = time::now().unwrap_or(0);
            worst = worst.max(latest.saturating_sub(now));
            LATEST.fetch_max(now, SeqCst);
            if round % 100 == 0 {
                // Perhaps to go on on another CPU.
                let _ = hypercall::yield_now();
            }
        }
        worst
    });
    println!("{backwards:?} ns backwards");
    holds("backwards", backwards.iter().all(|ns| *ns == 0))
}

/// It passes as the TSC does, and while the vCPU sleeps.
pub fn passes() -> Told {
    let clock = shared::record()
        .map(guest_kernel::record::Record::clock)
        .ok_or_else(|| refusal(pv_abi::errno::Errno::ENOSYS))?;
    holds("scale", clock.scale.multiplier >= 1 << 31)?;
    let start = time::now().unwrap_or(0);
    hypercall::poll(&[], start + 100_000_000).map_err(refusal)?;
    let slept = time::now().unwrap_or(0) - start;
    holds("a tenth of a second", (99_000_000..10_000_000_000).contains(&slept))
}

/// A second copy of the time record, at an address of the guest's choice, says the same.
pub fn second_copy() -> Told {
    let page = Page::new();
    // SAFETY: the page is the story's, for good.
    let registered = unsafe { hypercall::register_time_area(0, page.address + 64) };
    equal("register", registered, Ok(0))?;
    let first = shared::record()
        .map(guest_kernel::record::Record::clock)
        .ok_or_else(|| refusal(pv_abi::errno::Errno::ENOSYS))?;
    let version = page.read(8) & 0xffff_ffff;
    holds("written at once", version != 0 && version.is_multiple_of(2))?;
    equal("scale", page.read(11) & 0xffff_ffff, first.scale.multiplier.into())
}
