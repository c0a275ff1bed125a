//! Shared-memory protocols between domains. The hypervisor takes no part in them.

pub mod block;
pub mod console;
pub mod net;
pub mod ring;
pub mod xenbus;
pub mod xenstore;
