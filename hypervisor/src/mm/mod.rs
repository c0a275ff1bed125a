//! Memory: who owns each machine frame, what it is used as, and when it may change.
#![forbid(unsafe_code)]

pub mod buddy;
pub mod entry;
pub mod error;
pub mod flush;
pub mod frame;
pub mod list;
pub mod m2p;
pub mod operation;
pub mod owner;
pub mod ownership;
mod pin;
pub mod root;
pub mod segdesc;
pub mod state;
mod types;
pub mod update;
pub mod validate;

#[cfg(test)]
mod tests;
