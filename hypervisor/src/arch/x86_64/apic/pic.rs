//! The PC's two 8259 interrupt controllers, which must not be heard.

use x86_64::instructions::port::PortWriteOnly;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];
/// ICW1: initialise, four words follow. ICW4: 8086 mode.
const ICW1: u8 = 0x11;
const ICW4: u8 = 0x01;

/// Moves both controllers off the exceptions' vectors, so that a spurious interrupt is at least not taken for an
/// exception, and masks all their lines.
pub(super) fn disable() {
    for (n, (command, data)) in COMMAND.into_iter().zip(DATA).enumerate() {
        // ICW2 is the base vector, ICW3 how the two are chained: by line 2.
        let (base, chain) = if n == 0 { (0x20, 1 << 2) } else { (0x28, 2) };
        for (port, value) in [(command, ICW1), (data, base), (data, chain), (data, ICW4), (data, 0xff)] {
            // SAFETY: the platform defines these ports; only the boot CPU touches them, once.
            unsafe { PortWriteOnly::new(port).write(value) };
        }
    }
}
