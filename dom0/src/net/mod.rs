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
//! | `vif` | the back end of a guest's device |

pub mod bridge;
mod packet;
mod segment;
mod switch;
pub mod toolstack;
pub mod vif;

pub use packet::{Abilities, Checksum, Gso, MAX_FRAME, Packet};
pub use switch::{Switch, Taste};
