//! Interrupt vectors above the CPU's own 32 exceptions. A higher vector has a higher priority at the local APIC.

use core::ops::Range;

/// First vector handed to device interrupts.
pub const FIRST_DEVICE: u8 = 0x30;
/// The vectors of device interrupts.
pub const DEVICES: [Range<u8>; 2] = [FIRST_DEVICE..GUEST_SYSTEM_CALL, GUEST_SYSTEM_CALL + 1..SERIAL];
/// `int 0x80` of a guest. Between the device interrupts, and none of them.
pub const GUEST_SYSTEM_CALL: u8 = 0x80;
/// The console's receive interrupt.
pub const SERIAL: u8 = 0xe0;
/// The local APIC's one-shot timer.
pub const TIMER: u8 = 0xf0;
/// Another CPU asks this one to look at its mailbox and run queue.
pub const KICK: u8 = 0xf1;
/// Another CPU wants this one to flush its translations.
pub const FLUSH: u8 = 0xf2;
/// Local APIC error.
pub const ERROR: u8 = 0xfe;
/// Spurious local APIC interrupt; no end-of-interrupt is sent for it.
pub const SPURIOUS: u8 = 0xff;
