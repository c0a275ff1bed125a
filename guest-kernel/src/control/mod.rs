//! Control over other domains, for the domain that has it: the calls, memory of others, and a builder of small domains from
//! ELF files.
//!
//! | file | what |
//! |---|---|
//! | `image` | a kernel's ELF file: segments and Xen notes; pure |
//! | `plan` | what goes where in a new domain's memory; pure |
//! | `calls` | `domctl` and `sysctl`, and the calls that name another domain |
//! | `window` | frames of other domains, mapped for a moment |
//! | `build` | a domain from a plan |

pub mod image;
pub mod plan;

#[cfg(target_os = "none")]
mod build;
#[cfg(target_os = "none")]
pub mod calls;
#[cfg(target_os = "none")]
pub mod window;

#[cfg(target_os = "none")]
pub use build::{Error, New, build, create, module};
