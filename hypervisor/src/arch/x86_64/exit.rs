//! The result that a test run leaves: QEMU's `isa-debug-exit` device.

use core::sync::atomic::{AtomicU16, Ordering};

use x86_64::instructions::port::PortWriteOnly;

/// What is written to the device. QEMU ends with status `2 * value + 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum DebugExit {
    /// All domains ended in order.
    Clean = 0x10,
    /// Some domain crashed.
    Crashed = 0x11,
    /// The hypervisor panicked.
    Panic = 0x12,
}

/// The device's port; 0: there is none.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Says that the device is at `port`, as the boot configuration claims.
pub fn set_debug_exit(port: u16) {
    PORT.store(port, Ordering::Relaxed);
}

/// The device's port, if there is one.
pub fn debug_exit_port() -> Option<u16> {
    Some(PORT.load(Ordering::Relaxed)).filter(|&port| port != 0)
}

/// Ends QEMU, if there is such a device; else does nothing.
pub fn debug_exit(result: DebugExit) {
    let port = PORT.load(Ordering::Relaxed);
    if port != 0 {
        // SAFETY: whoever wrote the boot configuration says that this port is the debug-exit device's. It acts on
        // nothing but QEMU itself.
        unsafe { PortWriteOnly::new(port).write(result as u32) };
    }
}
