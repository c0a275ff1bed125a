//! The suite `mmu`: the calls that change page tables, descriptors and the reservation. What is good in them works,
//! and what is bad gets the error that the ABI has for it.

pub mod copies;
pub mod cpu;
pub mod debug;
pub mod descriptors;
pub mod emulated;
pub mod ends;
pub mod flushes;
pub mod ground;
pub mod ldt;
pub mod machphys;
pub mod pins;
pub mod reservation;
pub mod roots;
pub mod updates;
pub mod user;
pub mod user_mode;
pub mod va_mapping;
