//! From one vCPU to another on the same CPU: each wakes the other by an event, and sleeps until it is woken.

use crate::bell::Bell;
use crate::meter::{Effort, Measured};
use crate::partner;
use alloc::sync::Arc;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use guest_kernel::probe::enable_avx;
use guest_kernel::{event, hypercall, smp};
use pv_abi::errno::Errno;

static HERE: Bell = Bell::new();
static THERE: Bell = Bell::new();

/// Two vCPUs of this domain, both of which use the vector registers between any two switches.
pub fn vcpu_switch(effort: Effort) -> Measured {
    if !enable_avx() {
        return Err(Errno::EOPNOTSUPP);
    }
    let here = event::bind_ipi(0, |_| HERE.ring())?;
    let there = event::bind_ipi(1, |_| THERE.ring())?;
    smp::start(2).map_err(|_| Errno::ENOMEM)?;
    let done = Arc::new(AtomicBool::new(false));
    let over = done.clone();
    smp::run_on(1, move || {
        enable_avx();
        event::disable();
        while !over.load(SeqCst) {
            THERE.wait();
            use_vectors();
            let _ = hypercall::send(here);
        }
    });
    let measured = effort.count(2, || {
        use_vectors();
        let sent = hypercall::send(there);
        HERE.wait();
        sent.map_or_else(Errno::code, |_| 0)
    });
    done.store(true, SeqCst);
    let _ = hypercall::send(there);
    HERE.wait();
    event::close(there)?;
    event::close(here)?;
    measured
}

/// A vCPU of another domain: from a `send` until its handler runs, and the same back.
pub fn wake_ping_pong(effort: Effort) -> Measured {
    let port = partner::port().ok_or(Errno::ESRCH)?;
    effort.count(2, || partner::ping(port).map_or_else(Errno::code, |()| 0))
}

/// Makes the vector registers hold something new.
fn use_vectors() {
    // SAFETY: the register is used by nothing else: kernel code is compiled without vectors.
    unsafe { asm!("vpcmpeqd ymm0, ymm0, ymm0", options(nomem, nostack, preserves_flags)) };
}
