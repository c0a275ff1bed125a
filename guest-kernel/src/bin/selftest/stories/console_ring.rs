//! Told behind dom0: what a domain does to its console's ring harms only itself.

use crate::check::{Ending, Told, holds};
use crate::stories::smp::wait_until;
use alloc::format;
use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel::start::start_info;
use guest_kernel::{hypercall, memory, println};
use pv_abi::io::console::{CONSOLE_IN_SIZE, CONSOLE_OUT_SIZE};
use pv_abi::sched::SHUTDOWN_POWEROFF;

/// Lines of the flood.
const LINES: u32 = 1500;

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
    // SAFETY: four indices are there, in a page that is mapped for good and used through atomics only.
    let index = |index: usize| unsafe { &*indices.add(index) };
    println!("begins to scribble");
    // What the back end has taken of what was said: the line is to be heard.
    wait_until("the line's end", || index(2).load(Ordering::SeqCst) == index(3).load(Ordering::SeqCst))?;
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let number = usize::try_from(random % 4).unwrap_or(0);
        // Half of them are near what is there, where the mistakes of back ends are.
        let value = if random & 16 == 0 { (random >> 32) as u32 } else { (random >> 32) as u32 & 0xfff };
        index(number).store(value, Ordering::Relaxed);
        let _ = hypercall::send(info.console_evtchn);
    }
    hypercall::shutdown(SHUTDOWN_POWEROFF).map(drop).map_err(|errno| Ending::Fail(format!("shutdown: {errno:?}")))
}
