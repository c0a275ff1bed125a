//! Memory: who owns each machine frame, what it is used as, and when it may change.
#![forbid(unsafe_code)]

pub mod buddy;
pub mod flush;
pub mod frame;
pub mod list;
pub mod m2p;
pub mod ownership;
pub mod state;
