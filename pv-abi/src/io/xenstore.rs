//! The XenStore ring and wire protocol. Header: `io/xs_wire.h`.
//!
//! Messages are a [`SockMsg`] and its payload, streamed through two byte rings in one page. A message may be longer
//! than a ring, and may arrive in pieces of any size.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Errno;

/// Toolstack commands to the server.
pub const XS_CONTROL: u32 = 0;
/// Lists a node's children.
pub const XS_DIRECTORY: u32 = 1;
/// Reads a node.
pub const XS_READ: u32 = 2;
/// Reads a node's permissions.
pub const XS_GET_PERMS: u32 = 3;
/// Asks to be told of changes at or below a path.
pub const XS_WATCH: u32 = 4;
/// Ends a watch.
pub const XS_UNWATCH: u32 = 5;
/// Starts a transaction.
pub const XS_TRANSACTION_START: u32 = 6;
/// Commits (`T`) or drops (`F`) a transaction.
pub const XS_TRANSACTION_END: u32 = 7;
/// Tells the server of a new domain.
pub const XS_INTRODUCE: u32 = 8;
/// Tells the server that a domain is gone.
pub const XS_RELEASE: u32 = 9;
/// Returns a domain's home path.
pub const XS_GET_DOMAIN_PATH: u32 = 10;
/// Writes a node.
pub const XS_WRITE: u32 = 11;
/// Makes a node if there is none.
pub const XS_MKDIR: u32 = 12;
/// Removes a node and all below it.
pub const XS_RM: u32 = 13;
/// Sets a node's permissions.
pub const XS_SET_PERMS: u32 = 14;
/// From the server: a watched path changed.
pub const XS_WATCH_EVENT: u32 = 15;
/// From the server: the request failed; the payload is the error's name.
pub const XS_ERROR: u32 = 16;
/// Asks whether the server knows a domain.
pub const XS_IS_DOMAIN_INTRODUCED: u32 = 17;
/// Tells the server that a domain was resumed.
pub const XS_RESUME: u32 = 18;
/// Gives a domain the rights of another.
pub const XS_SET_TARGET: u32 = 19;
/// Ends all of the caller's watches.
pub const XS_RESET_WATCHES: u32 = 21;
/// Lists a part of a node's children.
pub const XS_DIRECTORY_PART: u32 = 22;
/// One more than the highest request type.
pub const XS_TYPE_COUNT: u32 = 23;
/// Never a request type.
pub const XS_INVALID: u32 = 0xffff;

/// Precedes each message: `struct xsd_sockmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SockMsg {
    /// An `XS_*`; a reply has its request's, or [`XS_ERROR`]. The header's field is `type`.
    pub kind: u32,
    /// Chosen by the client and echoed.
    pub req_id: u32,
    /// The transaction, or 0.
    pub tx_id: u32,
    /// Bytes of payload, at most [`XENSTORE_PAYLOAD_MAX`].
    pub len: u32,
}
layout!(SockMsg, 16, req_id @ 4, tx_id @ 8, len @ 12);

/// Bytes in each ring.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Longest payload.
pub const XENSTORE_PAYLOAD_MAX: u32 = 4096;
/// Longest path that starts with `/`, without the NUL.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Longest path relative to the domain's home, without the NUL.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// The page that guest and server share: `struct xenstore_domain_interface`.
///
/// Indices run freely; a byte's place is its index modulo [`XENSTORE_RING_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenstoreInterface {
    /// Bytes to the server.
    pub req: [u8; XENSTORE_RING_SIZE],
    /// Bytes from the server.
    pub rsp: [u8; XENSTORE_RING_SIZE],
    /// The next byte the server will read.
    pub req_cons: u32,
    /// The next byte the guest will write.
    pub req_prod: u32,
    /// The next byte the guest will read.
    pub rsp_cons: u32,
    /// The next byte the server will write.
    pub rsp_prod: u32,
    /// `XENSTORE_SERVER_FEATURE_*` bits.
    pub server_features: u32,
    /// [`XENSTORE_CONNECTED`] or [`XENSTORE_RECONNECT`].
    pub connection: u32,
    /// An `XENSTORE_ERROR_*`.
    pub error: u32,
}
layout!(XenstoreInterface, 2076, rsp @ 0x400, req_cons @ 0x800, req_prod @ 0x804, rsp_cons @ 0x808, rsp_prod @ 0x80c);

/// The server can start a connection afresh.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// The server fills in [`XenstoreInterface::error`].
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// The connection works.
pub const XENSTORE_CONNECTED: u32 = 0;
/// The guest asks for a fresh start.
pub const XENSTORE_RECONNECT: u32 = 1;
/// No error.
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// Communication failed.
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// A ring index was wrong.
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// The protocol was not followed.
pub const XENSTORE_ERROR_PROTO: u32 = 3;

/// The errors an [`XS_ERROR`] can carry, by the names that stand for them on the wire (there followed by a NUL).
pub const XSD_ERRORS: [(Errno, &str); 16] = [
    (Errno::EINVAL, "EINVAL"),
    (Errno::EACCES, "EACCES"),
    (Errno::EEXIST, "EEXIST"),
    (Errno::EISDIR, "EISDIR"),
    (Errno::ENOENT, "ENOENT"),
    (Errno::ENOMEM, "ENOMEM"),
    (Errno::ENOSPC, "ENOSPC"),
    (Errno::EIO, "EIO"),
    (Errno::ENOTEMPTY, "ENOTEMPTY"),
    (Errno::ENOSYS, "ENOSYS"),
    (Errno::EROFS, "EROFS"),
    (Errno::EBUSY, "EBUSY"),
    (Errno::EAGAIN, "EAGAIN"),
    (Errno::EISCONN, "EISCONN"),
    (Errno::E2BIG, "E2BIG"),
    (Errno::EPERM, "EPERM"),
];
