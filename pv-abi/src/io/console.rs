//! The console ring. Header: `io/console.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in the ring to the guest.
pub const CONSOLE_IN_SIZE: usize = 1024;
/// Bytes in the ring from the guest.
pub const CONSOLE_OUT_SIZE: usize = 2048;

/// The page that guest and console backend share: `struct xencons_interface`.
///
/// Indices run freely; a byte's place is its index modulo the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ConsoleInterface {
    /// Bytes to the guest. The header's field is `in`.
    pub input: [u8; CONSOLE_IN_SIZE],
    /// Bytes from the guest. The header's field is `out`.
    pub output: [u8; CONSOLE_OUT_SIZE],
    /// The next byte the guest will read.
    pub in_cons: u32,
    /// The next byte the backend will write.
    pub in_prod: u32,
    /// The next byte the backend will read.
    pub out_cons: u32,
    /// The next byte the guest will write.
    pub out_prod: u32,
}
layout!(ConsoleInterface, 3088, output @ 0x400, in_cons @ 0xc00, in_prod @ 0xc04, out_cons @ 0xc08, out_prod @ 0xc0c);
