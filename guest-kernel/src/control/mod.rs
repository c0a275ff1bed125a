//! Control over other domains, for the domain that has it: the calls, memory of others, and new domains from ELF files.
//!
//! | file | what |
//! |---|---|
//! | `calls` | `domctl` and `sysctl`, and the calls that name another domain |
//! | `foreign` | frames of other domains, mapped |
//! | `build` | a domain as crate `domain-builder` plans it |

mod build;
pub mod calls;
pub mod foreign;

pub use build::{Created, Error, New, Ring, create, module};
