//! The domains of the machine file, which are in the archive that is this domain's RAM disk: created, watched, ended.
//!
//! | file | what |
//! |---|---|
//! | `life` | how domains end, and what follows; pure |
//! | `cpus` | which CPUs a domain may use; pure |
//! | `table` | domains as a table of text; pure |
//! | `traffic` | what went through a domain's devices; pure |
//! | `drivers` | devices that other domains than this one serve; pure |
//! | `attend` | who sees to a part of each domain |
//! | `manager` | the live domains |
//! | `supervisor` | the service that creates them at the start, and sees to those that end |

pub mod cpus;
pub mod drivers;
pub mod life;
pub mod table;
pub mod traffic;

#[cfg(target_os = "none")]
mod attend;
#[cfg(target_os = "none")]
mod manager;
#[cfg(target_os = "none")]
mod supervisor;

#[cfg(target_os = "none")]
pub use {
    attend::{Attendant, Newcomer},
    manager::{Domains, Error},
    supervisor::Supervisor,
};
