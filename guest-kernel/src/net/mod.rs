//! Networks: what both sides of a network device know of packets, and the frontend.
//!
//! | file | what |
//! |---|---|
//! | `mac` | link-layer addresses |
//! | `wire` | where the headers of a packet lie |
//! | `slot` | what is in the slots of the rings |
//! | `rings` | the frontend's side of the rings |
//! | `nic`, `stack` | a device for smoltcp; TCP/IP over it |
//! | `serve`, `stream` | a web page, an echo; a client that checks the echo |
//! | `frontend` | a device, live |
//! | `checksum` | the checksums of TCP and UDP: whole, checked, or left blank for the other side |

pub mod checksum;
#[cfg(target_os = "none")]
mod frontend;
#[cfg(test)]
mod hostile;
mod mac;
pub mod nic;
pub mod rings;
pub mod serve;
mod slot;
pub mod stack;
pub mod stream;
pub mod wire;

#[cfg(target_os = "none")]
pub use frontend::{Error, Netfront};
pub use mac::{Mac, ParseMacError};
pub use slot::{RxSlot, TxSlot};
pub use smoltcp;
