//! Threads of the kernel, on any number of vCPUs.
//!
//! A thread has a stack with a page below that isn't mapped. It runs until it yields, waits, sleeps or ends; it may go on
//! on another vCPU. Long work calls [`checkpoint`] now and then, which yields when the thread has had its time. Nothing
//! is preempted: between two such calls a thread stays on its vCPU. FPU registers aren't kept across them.
//!
//! Threads run only in [`run`], which turns all vCPUs it is given over to them until the last one ends.
//!
//! **Waiting**: [`park`] waits until another thread, or the handler of an event, calls [`Thread::unpark`]. One that
//! came before is not lost: the next `park` returns at once. It may also return for no reason, so callers look again
//! whether what they wait for has come. [`Mutex`](block::Mutex), [`Condition`](block::Condition) and
//! [`channel`](channel::channel) are made of that.
//!
//! **Rules**: a thread that holds a [spin lock](crate::sync::Mutex) doesn't wait or yield, because another thread of the
//! vCPU would spin for good; and doesn't spawn while holding the [memory](crate::memory).
//!
//! | file | what |
//! |---|---|
//! | `schedule`, `deadlines` | who runs next; pure |
//! | `stack` | stacks, and who runs on which |
//! | `switch` | from one stack to another |
//! | `worker` | what a vCPU does: runs threads, sleeps without any |
//! | `block` | a lock and a condition whose waiters let others run |
//! | `channel` | values from threads to threads |

pub mod deadlines;
pub mod schedule;

#[cfg(target_os = "none")]
pub mod block;
#[cfg(target_os = "none")]
pub mod channel;
#[cfg(target_os = "none")]
pub(crate) mod stack;
#[cfg(target_os = "none")]
mod switch;
#[cfg(target_os = "none")]
mod worker;

#[cfg(target_os = "none")]
pub use worker::{JoinHandle, Thread, checkpoint, current, park, park_until, run, sleep, spawn, yield_now};

/// The most threads at once.
pub const LIMIT: usize = 4096;
