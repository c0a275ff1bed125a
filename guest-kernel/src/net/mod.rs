//! Networks: what both sides of a network device know of packets.
//!
//! | file | what |
//! |---|---|
//! | `mac` | link-layer addresses |
//! | `wire` | where the headers of a packet lie |
//! | `checksum` | the checksums of TCP and UDP: whole, checked, or left blank for the other side |

pub mod checksum;
mod mac;
pub mod wire;

pub use mac::{Mac, ParseMacError};
