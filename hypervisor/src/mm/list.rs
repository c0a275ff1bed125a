//! A doubly linked list of frames, threaded through the frame table: free blocks of one order, or a domain's frames.
//!
//! A frame is on one list at most. The list's owner holds a lock; the links of the frames on it belong to that lock.

use super::frame::{FrameTable, NO_LINK};
use crate::addr::Mfn;

/// The head of a list of frames.
#[derive(Debug)]
pub struct FrameList {
    first: u32,
    len: u64,
}

impl FrameList {
    /// The empty list.
    pub const fn new() -> FrameList {
        FrameList { first: NO_LINK, len: 0 }
    }

    /// Frames on the list.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frame that was put on last.
    pub fn first(&self) -> Option<Mfn> {
        as_frame(self.first)
    }

    /// Puts a frame, which is on no list, at the head.
    pub fn push(&mut self, table: &FrameTable<'_>, mfn: Mfn) {
        let frame = table.known(mfn);
        let link = as_link(mfn);
        if let Some(second) = as_frame(self.first) {
            table.known(second).set_prev(link);
        }
        frame.set_next(self.first);
        frame.set_prev(NO_LINK);
        self.first = link;
        self.len += 1;
    }

    /// Takes off a frame that is on this list.
    ///
    /// # Panics
    /// If the neighbours show that it is not: our own book-keeping is broken.
    pub fn remove(&mut self, table: &FrameTable<'_>, mfn: Mfn) {
        let frame = table.known(mfn);
        let link = as_link(mfn);
        match as_frame(frame.prev()) {
            Some(prev) => {
                let prev = table.known(prev);
                assert!(prev.next() == link, "{mfn:?} is not on this list");
                prev.set_next(frame.next());
            }
            None => {
                assert!(self.first == link, "{mfn:?} is not on this list");
                self.first = frame.next();
            }
        }
        if let Some(next) = as_frame(frame.next()) {
            table.known(next).set_prev(frame.prev());
        }
        self.len -= 1;
    }

    /// Takes off the head.
    pub fn pop(&mut self, table: &FrameTable<'_>) -> Option<Mfn> {
        let first = self.first()?;
        self.remove(table, first);
        Some(first)
    }
}

impl Default for FrameList {
    fn default() -> FrameList {
        FrameList::new()
    }
}

fn as_frame(link: u32) -> Option<Mfn> {
    (link != NO_LINK).then_some(Mfn(u64::from(link)))
}

fn as_link(mfn: Mfn) -> u32 {
    u32::try_from(mfn.0).expect("frame numbers fit in a link: FrameTable::new asserts it")
}
