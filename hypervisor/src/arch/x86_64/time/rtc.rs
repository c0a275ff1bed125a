//! The CMOS real-time clock (MC146818): date and time at boot.

use x86_64::instructions::port::{Port, PortWriteOnly};

use crate::time::RtcReading;

/// Index port; its top bit masks NMIs, which stay allowed.
const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
/// Status register A: the registers are about to change or changing.
const UPDATING: u8 = 1 << 7;

/// An update takes about 2 ms, a register read about 2 us.
const PATIENCE: u32 = 10_000;

/// Reads the clock. `century` is the register that ACPI names. `None` if the registers don't settle.
pub fn read(century: Option<u8>) -> Option<RtcReading> {
    // Two equal readings outside an update are one consistent time.
    let mut last = read_once(century)?;
    for _ in 0..4 {
        let next = read_once(century)?;
        if next == last {
            return Some(next);
        }
        last = next;
    }
    None
}

fn read_once(century: Option<u8>) -> Option<RtcReading> {
    (0..PATIENCE).find(|_| register(STATUS_A) & UPDATING == 0)?;
    Some(RtcReading {
        second: register(0),
        minute: register(2),
        hour: register(4),
        day: register(7),
        month: register(8),
        year: register(9),
        century: century.map(register),
        status_b: register(STATUS_B),
    })
}

fn register(number: u8) -> u8 {
    // SAFETY: selecting and reading a CMOS register changes nothing; only the boot CPU does so, at boot.
    unsafe {
        PortWriteOnly::new(INDEX).write(number);
        Port::new(DATA).read()
    }
}
