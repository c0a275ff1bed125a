//! Work on tables that is begun and not finished: the stack and the cursors of [`validate`](super::validate), and what is to
//! be done after a step.

use arrayvec::ArrayVec;

use super::error::Refused;
use super::operation::Freed;
use super::state::Level;
use crate::addr::Mfn;

/// A table whose entries are being taken or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub mfn: Mfn,
    pub level: Level,
    /// Entries below hold their references, those from here up do not.
    pub cursor: usize,
    pub building: bool,
}

impl Table {
    pub const fn building(mfn: Mfn, level: Level) -> Table {
        Table { mfn, level, cursor: 0, building: true }
    }

    /// A complete table whose last type reference was dropped.
    pub const fn closing(mfn: Mfn, level: Level, entries: usize) -> Table {
        Table { mfn, level, cursor: entries, building: false }
    }
}

/// How the check of a table ended, kept for the caller that comes back for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Checked; the reference is held here until it is fetched.
    Held,
    /// Refused, and everything undone.
    Failed(Refused),
}

/// Work on tables that one vCPU has begun and not finished. Belongs to the vCPU; empty most of the time.
///
/// Before a vCPU goes away, [`give_up`](super::operation::Operation::give_up) must have emptied it.
#[derive(Default, Debug)]
pub struct Pending {
    /// At most three tables dropped by one operation, and four levels below the last of them.
    pub(super) stack: ArrayVec<Table, 8>,
    pub(super) outcome: Option<(Mfn, Level, Outcome)>,
    /// Effect: frames to be retired after each call, whatever it returned.
    pub freed: Freed,
    /// Effect: an entry above L1 that was present has changed. The ABI lets guests count on a flush of the domain's
    /// CPUs at the end of the hypercall; our own safety does not need it (see [`mm`](super)).
    pub upper_changed: bool,
}

impl Pending {
    /// Nothing to do.
    pub const fn new() -> Pending {
        Pending { stack: ArrayVec::new_const(), outcome: None, freed: ArrayVec::new_const(), upper_changed: false }
    }

    /// Whether there is nothing for [`drain`](super::operation::Operation::drain) to finish.
    pub fn is_drained(&self) -> bool {
        self.stack.is_empty()
    }

    /// Whether there is nothing to finish, no table held and no frame to be retired.
    pub fn is_empty(&self) -> bool {
        self.stack.is_empty() && self.outcome.is_none() && self.freed.is_empty()
    }

    /// Takes over the tables that `other` has under work. There are none here.
    ///
    /// # Panics
    /// If there are.
    pub fn adopt(&mut self, other: &mut Pending) {
        assert!(self.is_drained(), "tables under work at two ends");
        core::mem::swap(&mut self.stack, &mut other.stack);
    }

    /// Notes that a frame lost its last reference.
    #[cold]
    pub(super) fn note_freed(&mut self, mfn: Mfn) {
        self.freed.push(mfn);
    }

    pub(super) fn push(&mut self, table: Table) {
        self.stack.push(table);
    }

    pub(super) fn set_cursor(&mut self, cursor: usize) {
        if let Some(top) = self.stack.last_mut() {
            top.cursor = cursor;
        }
    }

    /// Undoes what was built: every table on the stack loses the entries it has.
    pub(super) fn turn_around(&mut self) {
        for table in &mut self.stack {
            table.building = false;
        }
    }

    /// The tables under work, for tests that count references: frame, level, entries that hold references.
    #[cfg(test)]
    pub(super) fn tables(&self) -> impl Iterator<Item = (Mfn, Level, usize)> {
        self.stack.iter().map(|table| (table.mfn, table.level, table.cursor))
    }

    /// The table that is held for a caller to come back for.
    #[cfg(test)]
    pub(super) fn held(&self) -> Option<(Mfn, Level)> {
        self.outcome.filter(|(.., outcome)| *outcome == Outcome::Held).map(|(mfn, level, _)| (mfn, level))
    }
}
