//! The back end of a guest's network device. Header: `io/netif.h`.
//!
//! | file | what |
//! |---|---|
//! | `device` | a device: negotiation, queues, port of the bridge |
//! | `nodes` | what is said in XenStore |
//! | `platform` | grants and event channels, as a seam |
//! | `transmit` | the slots of the tx ring become packets |
//! | `receive` | packets become slots of the rx ring |
//! | `queue` | a pair of rings, and the data that is copied for them |
//!
//! Everything in a ring may be a lie. What no honest frontend writes is a [`Fault`], and ends the connection; what an
//! unlucky one may cause, such as a packet that is too long, costs the packet.

mod device;
mod nodes;
mod platform;
mod queue;
mod receive;
#[cfg(test)]
mod states;
#[cfg(test)]
mod tests;
mod transmit;

pub use device::Vif;
pub use platform::Platform;
pub use queue::{GrantCopy, Groups, Piece, Queue, Turn};

use crate::nodes::Unclear;
use core::fmt;
use guest_kernel::net::Mac;
use guest_kernel::ring;
use pv_abi::errno::Errno;

/// What no honest frontend does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The ring itself is wrong.
    Ring(ring::Error),
    /// A slot after the first that announced it is no extra info that there is.
    BadExtra,
    /// More slots than any packet needs.
    TooManySlots,
    /// Data that goes beyond its page.
    BeyondPage,
    /// A large packet that is to be cut into pieces of nothing, or of an unknown protocol.
    BadGso,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Ring(error) => error.fmt(f),
            Fault::BadExtra => f.write_str("an extra info of an unknown kind"),
            Fault::TooManySlots => f.write_str("a packet of too many slots"),
            Fault::BeyondPage => f.write_str("data beyond the end of a page"),
            Fault::BadGso => f.write_str("a large packet that can't be cut"),
        }
    }
}

impl From<ring::Error> for Fault {
    fn from(error: ring::Error) -> Fault {
        Fault::Ring(error)
    }
}

/// Why a device isn't connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// A node says nothing that it may.
    Node(Unclear),
    /// A ring's page can't be mapped.
    Grant(u32),
    /// An event channel can't be connected.
    Port(u32),
    /// The rings are wrong from the start.
    Ring(Fault),
    /// Another device has this address.
    MacInUse(Mac),
    /// The store refuses.
    Store(Errno),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Node(unclear) => unclear.fmt(f),
            Refusal::Grant(gref) => write!(f, "grant {gref} can't be mapped"),
            Refusal::Port(port) => write!(f, "event channel {port} can't be connected"),
            Refusal::Ring(fault) => fault.fmt(f),
            Refusal::MacInUse(mac) => write!(f, "another device has the address {mac}"),
            Refusal::Store(errno) => write!(f, "XenStore refuses: {errno:?}"),
        }
    }
}

impl From<Unclear> for Refusal {
    fn from(unclear: Unclear) -> Refusal {
        Refusal::Node(unclear)
    }
}
