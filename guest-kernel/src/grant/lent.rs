//! Pages that were granted and are given up. Who maps one may keep it as long as it likes, and it can't be used for anything
//! else before.

use super::Grant;
use crate::memory::{self, Run};
use crate::sync::Mutex;
use alloc::vec::Vec;

/// Pages that others had when they were given up.
static LENT: Mutex<Vec<Lent>> = Mutex::new(Vec::new());

/// Frames in a row, and those of their grants that are in use.
struct Lent {
    run: Run,
    grants: Vec<Grant>,
}

impl Lent {
    /// Takes back the grants that nobody uses; all of the pages, if there are no others.
    fn end(mut self) -> Option<Lent> {
        self.grants = self.grants.into_iter().filter_map(|grant| grant.end().err()).collect();
        if !self.grants.is_empty() {
            return Some(self);
        }
        if let Ok(mut memory) = memory::lock() {
            memory.release_run(self.run);
        }
        None
    }
}

/// Gives up granted pages: they are free at once, or when nobody has them mapped any more and somebody asks for it
/// ([`reclaim`]).
pub fn give_up(run: Run, grants: Vec<Grant>) {
    if let Some(lent) = (Lent { run, grants }).end() {
        LENT.lock().push(lent);
    }
}

/// Frees the pages that were given up, and of which others have let go since.
pub fn reclaim() {
    let lent = core::mem::take(&mut *LENT.lock());
    let kept: Vec<Lent> = lent.into_iter().filter_map(Lent::end).collect();
    LENT.lock().extend(kept);
}
