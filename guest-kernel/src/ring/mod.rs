//! The request and response rings of the split drivers, both sides of them. Header: `io/ring.h`.
//!
//! The frontend produces requests, the backend puts each response into a slot whose request it has read. The memory is
//! shared with somebody who may be hostile, so that
//!
//! * each index and each entry is read once, into memory of our own, and only then looked at;
//! * an index of the other side that no honest one could have written ends the ring: [`Error::IndexJump`], from then on;
//! * a side's own position is never read back from the shared memory.
//!
//! # No wake-up is lost
//!
//! A consumer that found nothing writes to the event index which entry it wants to be told of (`arm`), then looks once
//! more. A producer writes its index (`publish`), then looks at the event index. Between write and look each has a full
//! barrier, so at least one of them sees the other: the consumer finds the entry, or the producer rings. A consumer that
//! ignores what `arm` returns sleeps for ever.
//!
//! A ring of several pages is one range of addresses.

mod back;
mod front;
mod memory;
#[cfg(test)]
mod tests;

pub use back::Back;
pub use front::Front;
pub use memory::SharedMemory;

use core::fmt;

/// What is wrong with a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The memory has no room for a slot.
    TooSmall,
    /// The other side's index is impossible: it jumped ahead of what can be there, or back.
    IndexJump,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::TooSmall => "the ring has no room for an entry",
            Error::IndexJump => "an impossible index in the ring",
        })
    }
}

/// How far an index is ahead of another: both run freely, and wrap.
const fn ahead(index: u32, of: u32) -> u32 {
    index.wrapping_sub(of)
}

/// What a consumer knows of the other side's producer index: everything before it may be read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    index: u32,
    broken: bool,
}

impl Seen {
    /// Nothing but what is before `index`.
    const fn until(index: u32) -> Seen {
        Seen { index, broken: false }
    }

    /// Whether an entry is there for a consumer at `cons`. `load` reads the shared index, if that is needed to tell;
    /// `room` is how many entries there can be at most.
    fn beyond(&mut self, cons: u32, room: u32, load: impl FnOnce() -> u32) -> Result<bool, Error> {
        if self.index == cons || self.broken {
            self.look(cons, room, load)?;
        }
        Ok(self.index != cons)
    }

    /// Reads the shared index, once, and returns how many entries are there.
    fn look(&mut self, cons: u32, room: u32, load: impl FnOnce() -> u32) -> Result<u32, Error> {
        let index = load();
        // What was seen before is there still: an index that goes back is as wrong as one that jumps ahead.
        self.broken |= ahead(index, cons) > room || ahead(index, cons) < ahead(self.index, cons);
        if self.broken {
            return Err(Error::IndexJump);
        }
        self.index = index;
        Ok(ahead(index, cons))
    }
}
