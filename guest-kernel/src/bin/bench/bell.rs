//! What a vCPU sleeps for.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use guest_kernel::{event, hypercall};

/// Rung by the handler of an event, for one vCPU that waits for it.
pub struct Bell(AtomicBool);

impl Bell {
    /// Nobody has rung it.
    pub const fn new() -> Bell {
        Bell(AtomicBool::new(false))
    }

    /// Rings it.
    pub fn ring(&self) {
        self.0.store(true, SeqCst);
    }

    /// Sleeps until it rings. Upcalls must be masked, and are so again afterwards.
    pub fn wait(&self) {
        while !self.0.swap(false, SeqCst) {
            let _ = hypercall::block();
            event::disable();
        }
    }
}
