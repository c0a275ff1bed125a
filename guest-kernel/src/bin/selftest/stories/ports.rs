//! I/O ports without I/O privilege.

use crate::check::{Told, trapped};
use guest_kernel::{catch, probe};

/// `in` and `out` of every width are #GP, on a serial port, the keyboard controller and the PCI address port alike.
pub fn refused_without_privilege() -> Told {
    for port in [0x3f8, 0x64, 0xcf8, 0] {
        trapped("in", probe::inb(port).err(), 13, 0)?;
        // SAFETY: the instructions trap; the verdict says so if one doesn't.
        unsafe {
            trapped("out", probe::outb(port, 0).err(), 13, 0)?;
            trapped("in ax", catch!(["in ax, dx"] in("dx") port,), 13, 0)?;
            trapped("in eax", catch!(["in eax, dx"] in("dx") port,), 13, 0)?;
        }
    }
    // SAFETY: as above.
    trapped("in from port 0x60 by number", unsafe { catch!(["in al, 0x60"]) }, 13, 0)
}
