//! The stories, one file per subject.

pub mod assist;
pub mod callbacks;
pub mod calls;
pub mod console;
pub mod control;
pub mod cpuid;
pub mod crash;
pub mod frame;
pub mod frames;
pub mod iret;
pub mod memory_op;
pub mod msrs;
pub mod multicall;
pub mod ports;
pub mod sched;
pub mod segments;
pub mod shutdown;
pub mod space;
pub mod start;
pub mod table;
pub mod task;
pub mod traps;
pub mod version;
