//! Builds made-up kernels in a made-up memory, and looks at the result only as a booting kernel could: through the
//! page tables, from the registers.

// Test code runs on 64-bit hosts, with small numbers of its own making.
#![allow(clippy::cast_possible_truncation)]

mod boot;
mod elf_file;
mod hostile;
mod memory;
mod refusals;
