//! The boot archive: everything Pavise reads at boot besides its own image.
//!
//! `./x` makes one from a machine file and the kernels it names; the boot loader loads it as its RAM disk; the
//! hypervisor reads it once, early. The hypervisor treats it as hostile input: every length and offset is checked,
//! a damaged header refuses the archive, a damaged blob refuses only the domain that wanted it, and nothing panics.
//!
//! Layout, little-endian, offsets from the start of the archive:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic [`MAGIC`] |
//! | 8..12 | format version [`VERSION`] |
//! | 12..16 | length of the configuration in bytes |
//! | 16..24 | length of the whole archive in bytes |
//! | 24..28 | CRC-32 (IEEE) of bytes 0..24 and of the configuration |
//! | 28..32 | zero |
//! | 32.. | configuration: [`BootConfig`] in postcard encoding |
//! | .. | blobs, each aligned to [`BLOB_ALIGN`] bytes, at the offsets and with the CRC-32 their [`Blob`] gives |
//!
//! Domain kernels and RAM disks are blobs; so is the hypervisor's own symbol table ([`Symbols`]), which turns the
//! addresses of a backtrace into names.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod header;
mod read;
mod symbols;
mod write;

#[cfg(test)]
mod tests;

pub use config::{
    Blob, BootConfig, ConsoleConfig, DiskConfig, DiskSource, DomainConfig, LogLevel, MAX_COMMAND_LINE, MAX_NAME,
    MAX_VCPUS, NetworkConfig, Scheduling, WhenAllStopped, Xpti,
};
pub use header::{BLOB_ALIGN, HEADER_LEN, MAGIC, VERSION};
pub use read::{Archive, ArchiveError, BlobError};
pub use symbols::{Symbols, SymbolsError, encode_symbols};
pub use write::{ArchiveWriter, WriteError};
