//! Tasks: programs in user mode, each with its own address space.
//!
//! Their pages come when they are touched, a fork shares them until one writes, and what a task may not do ends it and
//! nobody else. Tasks run in turns and give the CPU away by system calls; nothing takes it from them.
//!
//! | file | what |
//! |---|---|
//! | `roster` | who runs next, who waits for whom; pure |
//! | `run` | running tasks to their ends |
//! | `calls` | the system calls |
//! | `program` | programs as part of the kernel's image |

pub mod roster;

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod program;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod user_task;

#[cfg(target_os = "none")]
pub use calls::number;
#[cfg(target_os = "none")]
pub use program::Program;
#[cfg(target_os = "none")]
pub use run::{Counts, Death, End, Event, Tasks};
#[cfg(target_os = "none")]
pub use user_task::{HEAP, STACK, TEXT, Task};
