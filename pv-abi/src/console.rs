//! `console_io`: the hypervisor's own console. Header: `xen.h`.
//!
//! A guest's normal console is the ring of [`crate::io::console`]; this call serves early and emergency messages.

/// Writes bytes. Arguments: command, count, guest address of the bytes.
pub const CONSOLEIO_WRITE: u32 = 0;
/// Reads up to `count` bytes into the guest's buffer and returns how many there were.
pub const CONSOLEIO_READ: u32 = 1;
