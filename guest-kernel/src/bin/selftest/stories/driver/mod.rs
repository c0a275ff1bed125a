//! Told behind dom0: driver domains. One serves a disk and a network device from its own memory, and lies in every way that
//! there is, one in each connection; the other, its client, has to find an error each time and a device that is closed, and
//! goes on with the disk that dom0 serves. Who has run out of lies serves honestly.
//!
//! Whoever serves says in a node of each device what the next lie is going to be, so that the client knows what it has to
//! see. An honest front end doesn't look there.
//!
//! | file | who |
//! |---|---|
//! | `server` | what the back ends have in common: devices are found, offered, connected, let go |
//! | `disk` | the back end of a disk, and its lies |
//! | `wire` | the back end of a network device, and its lies |
//! | `client` | the client |

mod client;
mod disk;
mod server;
mod wire;

pub use client::{lied_to, unplugged};
pub use server::{lies, serves};

use super::hostile::{Random, now, store, well};

/// The node with the next lie: its place among those of the device. It is empty when there are no more.
const LIE: &str = "lie";
