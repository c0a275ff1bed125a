//! XenStore: the tree of names and values through which domains find each other. Header: `io/xs_wire.h`.
//!
//! A client and the server exchange messages over two byte rings in a page that they share. All that is needed for both
//! ends is here; what the server does with a request is in the crate `dom0`.
//!
//! | file | what |
//! |---|---|
//! | `wire` | messages, from and to bytes that come in pieces; errors and permissions as text |
//! | `ring` | the shared page as two streams of bytes |
//! | `bus` | the requests, over whatever carries them |
//! | `client` | the client's end of a ring, as a state machine that never waits |
//! | `live` | the domain's own connection, which waits for answers |

pub mod bus;
pub mod client;
pub mod ring;
pub mod wire;

#[cfg(target_os = "none")]
mod live;

pub use bus::{Bus, Event, Tx};
#[cfg(target_os = "none")]
pub use live::Connection;
