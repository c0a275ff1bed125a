//! XenStore's server: the tree of names and values through which domains find each other.
//!
//! [`Store`] is the whole of it as a value: requests in, replies and events out, nothing that waits. A domain reaches it
//! by a ring ([`link`]), this domain's own services by a [`Connection`], and both mean the same.
//!
//! # How it stays fast
//! A node is found by its path's names, one lookup each. Watches are kept by path: a change looks at the watches of its
//! own path and of those above. A removal looks also at those below. Nothing walks over all nodes, watches or domains.
//!
//! # Transactions
//! Every request that changes something is a [transaction](transaction), if only of one. It keeps what it saw of the tree
//! and what it wants to change, so its cost is that of what it touches. It ends well only if all it saw is still so; its
//! changes are then made at once. So transactions that succeed are in effect made one after the other.
//!
//! # How a domain gets its connection
//! Whoever creates domains, here as anywhere, asks for it by the protocol: `XS_INTRODUCE` names the domain, the frame of its
//! ring and its port, and `XS_RELEASE` ends what the domain has. Only domain 0 may. What is to be mapped and bound for that
//! the server leaves to [`Rings`].
//!
//! # What a hostile domain can do
//! What a domain can make grow has a limit ([`quota`]), in numbers and in bytes: nodes that it owns, watches, and
//! transactions. Events that it doesn't fetch are merged, so that none is lost and there are never many. Its requests are
//! answered one at a time, and the next is looked at when there was room for the answer. Bytes that make no sense end its
//! connection, nobody else's.
//!
//! | file | what |
//! |---|---|
//! | `path` | paths: checked, absolute |
//! | `permission` | who may do what with a node |
//! | `tree` | the nodes |
//! | `transaction` | what a transaction saw and wants, and how it ends |
//! | `quota` | what domains have, and their limits |
//! | `watch` | watches by path |
//! | `events` | the events that a connection has not fetched |
//! | `server` | connections, and what requests do |
//! | `request` | requests from bytes |
//! | `local` | this domain's own connections |
//! | `link` | a domain's ring |
//! | `ring` | the live rings, each of which is a service |
//! | `home` | the nodes of a new domain |

mod events;
pub mod home;
pub mod link;
mod local;
mod path;
mod permission;
mod quota;
mod request;
#[cfg(target_os = "none")]
mod ring;
mod server;
mod transaction;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

pub use local::{Connection, Shared};
pub use quota::Limits;
#[cfg(target_os = "none")]
pub use ring::{Open, start};
pub use server::{ConnectionId, Rings, Store, Wake};
#[cfg(test)]
pub use tests::shared;
