//! The events that a connection has not fetched.
//!
//! They say that something changed, not what or how often: an event that is waiting already is not queued again. Beyond a
//! limit an event no longer says which path below the watch's changed, and so there is at most one more for each watch.

use super::watch::WatchId;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::rc::Rc;

/// An event: its watch, and the path that changed if that isn't the watch's.
pub type Waiting = (WatchId, Option<Rc<str>>);

/// Events in their order.
#[derive(Default, Debug)]
pub struct Events {
    queue: VecDeque<Waiting>,
    known: BTreeSet<Waiting>,
}

impl Events {
    /// Adds an event.
    pub fn push(&mut self, watch: WatchId, path: Option<&str>, limit: usize) {
        let path = path.filter(|_| self.queue.len() < limit).map(Rc::from);
        if self.known.insert((watch, path.clone())) {
            self.queue.push_back((watch, path));
        }
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Waiting> {
        let event = self.queue.pop_front()?;
        self.known.remove(&event);
        Some(event)
    }

    /// Drops those of a watch.
    pub fn forget(&mut self, watch: WatchId) {
        self.queue.retain(|(of, _)| *of != watch);
        self.known.retain(|(of, _)| *of != watch);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
