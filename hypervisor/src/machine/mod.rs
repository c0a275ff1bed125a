//! What the firmware says about the machine, and what follows from it, as pure values.
//!
//! `arch` reads the tables and fills these types; nothing here touches hardware. Firmware is trusted not to attack us
//! but not to be right: overlapping and unsorted memory regions, odd alignments and cut-off tables are dealt with.
#![forbid(unsafe_code)]

pub mod log_ring;
pub mod memory_map;
pub mod sleep;

pub use memory_map::{FrameRange, MemoryMap, Ranges, RegionKind};
pub use sleep::{SleepType, find_s5};
