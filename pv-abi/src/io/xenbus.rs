//! How frontend and backend of a device find together through XenStore. Headers: `io/xenbus.h`, `io/protocols.h`.
//!
//! Each writes its state, in decimal, to the node `state` of its directory and watches the other's.

/// There is no state node.
pub const XENBUS_STATE_UNKNOWN: u32 = 0;
/// Starting.
pub const XENBUS_STATE_INITIALISING: u32 = 1;
/// The backend has started and waits for the frontend's details.
pub const XENBUS_STATE_INIT_WAIT: u32 = 2;
/// The frontend has written its details and waits for the backend.
pub const XENBUS_STATE_INITIALISED: u32 = 3;
/// In use.
pub const XENBUS_STATE_CONNECTED: u32 = 4;
/// Going down.
pub const XENBUS_STATE_CLOSING: u32 = 5;
/// Down.
pub const XENBUS_STATE_CLOSED: u32 = 6;
/// Changing.
pub const XENBUS_STATE_RECONFIGURING: u32 = 7;
/// Changed.
pub const XENBUS_STATE_RECONFIGURED: u32 = 8;

/// Value of a frontend's node `protocol`: ring entries laid out as a 64-bit x86 compiler does.
pub const XEN_IO_PROTO_ABI_X86_64: &str = "x86_64-abi";
