//! Attacks: what published vulnerabilities of paravirtual memory, and relatives of theirs, tried to do. Each must end
//! with an error, and with nothing changed for anybody else; beside them runs a neighbour that sees to that.

pub mod addresses;
pub mod counts;
pub mod debug;
pub mod devices;
pub mod foreign;
pub mod freed;
pub mod gates;
pub mod hypervisor;
pub mod levels;
pub mod linear;
pub mod own_arguments;
pub mod pointers;
pub mod random;
pub mod returns;
pub mod stale;
pub mod stores;
pub mod superpages;
pub mod two_roots;
pub mod writable;
