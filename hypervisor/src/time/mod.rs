//! Clock arithmetic. Pure: a time-stamp counter (TSC) value comes in as an argument, never from the CPU.
//!
//! * [`Clock`] turns TSC values into nanoseconds of system time and deadlines into TSC values.
//! * [`GuestRecord`] is what a guest needs to do the first of these by itself.
//! * [`RtcReading`] turns the CMOS clock's registers into seconds since 1970.
#![forbid(unsafe_code)]

mod calendar;
mod clock;
mod scale;

pub use calendar::RtcReading;
pub use clock::{Clock, GuestRecord};
pub use scale::{GuestScale, Scale};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
