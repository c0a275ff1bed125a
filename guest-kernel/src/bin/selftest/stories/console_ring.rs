//! Told behind dom0: what a domain does to its console's ring harms only itself.

use crate::check::{Ending, Told, holds};
use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::start::start_info;
use guest_kernel::{hypercall, memory, println, time};
use pv_abi::io::console::{CONSOLE_IN_SIZE, CONSOLE_OUT_SIZE};
use pv_abi::sched::SHUTDOWN_POWEROFF;

/// Lines of the flood.
const LINES: u32 = 3000;

/// Writes many lines, as fast as the console takes them. Each is counted, so that one that is lost or comes twice is seen.
pub fn flood() -> Told {
    for line in 0..LINES {
        println!("flood {line} ..............................................");
    }
    Ok(())
}

/// Writes random numbers over the ring's indices, and tells the back end so, for a while. Then it ends: what it would say
/// nobody could hear.
pub fn scribble() -> Told {
    let info = start_info();
    holds("there is a console ring", info.console_evtchn != 0)?;
    let page = memory::address_of_frame(info.console_mfn).ok_or(Ending::Fail("it has no address".into()))?;
    let indices = (page + (CONSOLE_IN_SIZE + CONSOLE_OUT_SIZE) as u64) as *const AtomicU32;
    println!("begins to scribble");
    // The line is to be heard.
    time::sleep(200_000_000);
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let index = usize::try_from(random % 4).unwrap_or(0);
        // Half of them are near what is there, where the mistakes of back ends are.
        let value = if random & 16 == 0 { (random >> 32) as u32 } else { (random >> 32) as u32 & 0xfff };
        // SAFETY: four indices are there, in a page that is mapped for good and used through atomics only.
        unsafe { &*indices.add(index) }.store(value, Ordering::Relaxed);
        let _ = hypercall::send(info.console_evtchn);
    }
    hypercall::shutdown(SHUTDOWN_POWEROFF).map(drop).map_err(|errno| Ending::Fail(format!("shutdown: {errno:?}")))
}
