//! Time and timers.

pub mod clock;
pub mod runstate;
pub mod timers;
