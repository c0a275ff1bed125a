//! The prompt: what is typed for this domain, and what it does.
//!
//! | file | what |
//! |---|---|
//! | `command` | the commands; pure |
//! | `shell` | the line that is typed, and the commands carried out |

pub mod command;

#[cfg(target_os = "none")]
mod shell;

#[cfg(target_os = "none")]
pub use shell::Prompt;
