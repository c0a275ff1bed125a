//! The network: a bridge between the guests and the machine's own device.
//!
//! A packet comes out of a guest's tx ring or from the device, becomes a [`Packet`] in memory of this domain, is judged by
//! the [`bridge`], and is queued where it says. All of it is counted and bounded: what a guest sends costs it its own
//! rate, what it doesn't receive is dropped.
//!
//! | file | what |
//! |---|---|
//! | `packet` | a frame, and what is left to be done to it |
//! | `segment` | cutting a large TCP packet into ones that fit |
//! | `bridge` | which port may send what, and where it goes |
//! | `switch` | the bridge with the packets that wait in it |
//! | `toolstack` | what is written for a new domain's device |
//! | `live`, `uplink` | guests' devices on live grants and events; the machine's own device |
//! | `vif` | the back end of a guest's device |

pub mod bridge;
#[cfg(target_os = "none")]
mod live;
mod packet;
mod segment;
mod switch;
pub mod toolstack;
#[cfg(target_os = "none")]
mod uplink;
pub mod vif;

#[cfg(target_os = "none")]
pub use live::start;

pub use packet::{Abilities, Checksum, Gso, MAX_FRAME, Packet};
pub use switch::{Switch, Taste};
