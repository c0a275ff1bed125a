//! Networks: what both sides of a network device know of packets, and the frontend.
//!
//! | file | what |
//! |---|---|
//! | `mac` | link-layer addresses |
//! | `wire` | where the headers of a packet lie |
//! | `slot` | what is in the slots of the rings |
//! | `rings` | the frontend's side of the rings |
//! | `nic`, `stack` | a device for smoltcp; TCP/IP over it |
//! | `checksum` | the checksums of TCP and UDP: whole, checked, or left blank for the other side |

pub mod checksum;
mod mac;
pub mod nic;
pub mod rings;
mod slot;
pub mod stack;
pub mod wire;

pub use mac::{Mac, ParseMacError};
pub use slot::{RxSlot, TxSlot};
pub use smoltcp;
