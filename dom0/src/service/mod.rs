//! Services: what the control domain does, as parts that take turns on its one vCPU.
//!
//! A [`Service`] is woken by an event of one of its ports, by its deadline, or by another service through a [`Waker`]. It
//! then does a bounded amount of work and returns. Nothing in a turn may wait: what isn't there yet is waited for by
//! returning. So a service can be as simple as one thread's loop body, and none needs a lock.
//!
//! | file | what |
//! |---|---|
//! | `marks` | who is to be called, set by event handlers; pure |
//! | `allowance` | how much of it a domain may take with what isn't data; pure |
//! | `list` | all services and whose turn it is; pure |
//! | `port` | event ports that belong to a service |
//! | `run` | the loop, and sleep when there is nothing to do |

mod allowance;
mod list;
mod marks;
#[cfg(target_os = "none")]
mod port;
#[cfg(target_os = "none")]
mod run;

pub use allowance::Allowance;
pub use list::{Full, Services};
pub use marks::{Marks, PORTS, Waker};
#[cfg(target_os = "none")]
pub use {
    port::Port,
    run::{run, services},
};

/// A part of the control domain that takes turns with the others.
pub trait Service {
    /// One turn, at system time `now` in nanoseconds. It may come without a cause: whoever was woken twice, or by a waker
    /// from before its time, finds nothing to do.
    ///
    /// The amount of work is bounded, whatever guests do: about what takes 100 microseconds. If there is more, return
    /// [`Next::More`].
    fn work(&mut self, now: u64) -> Next;
}

/// When a service wants its next turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// As soon as the others that are ready have had theirs.
    More,
    /// When it is woken.
    Wait,
    /// When it is woken, or at this system time in nanoseconds.
    WaitUntil(u64),
    /// Never. The service is dropped.
    End,
}
