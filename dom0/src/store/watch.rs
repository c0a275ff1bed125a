//! Watches by path.

use super::path::Path;
use super::server::ConnectionId;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::cell::Cell;
use core::ops::Bound::{Excluded, Included};

/// A watch's number, never used again.
pub type WatchId = u64;

/// A watch.
#[derive(Debug)]
pub struct Watch {
    /// Whose it is.
    pub connection: ConnectionId,
    /// What is watched.
    pub path: Path,
    /// How many bytes of paths this client leaves out: see [`Given`](super::path::Given).
    pub left_out: usize,
    /// Chosen by the client.
    pub token: Box<[u8]>,
}

/// All watches.
#[derive(Default, Debug)]
pub struct Watches {
    all: BTreeMap<WatchId, Watch>,
    by_path: BTreeMap<Box<str>, BTreeSet<WatchId>>,
    last: WatchId,
    /// Watches looked at so far: what changes cost.
    pub visits: Cell<usize>,
}

impl Watches {
    /// Adds a watch.
    pub fn add(&mut self, watch: Watch) -> WatchId {
        self.last += 1;
        self.by_path.entry(watch.path.as_str().into()).or_default().insert(self.last);
        self.all.insert(self.last, watch);
        self.last
    }

    /// Ends a watch.
    pub fn remove(&mut self, id: WatchId) -> Option<Watch> {
        let watch = self.all.remove(&id)?;
        if let Some(ids) = self.by_path.get_mut(watch.path.as_str()) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_path.remove(watch.path.as_str());
            }
        }
        Some(watch)
    }

    /// The watch of a number.
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.get(&id)
    }

    /// Those of a path, in the order in which they were added.
    pub fn at(&self, path: &str) -> impl Iterator<Item = (WatchId, &Watch)> {
        self.watches(self.by_path.get(path))
    }

    /// Those of paths below one that is neither the root nor special.
    pub fn below(&self, path: &str) -> impl Iterator<Item = (WatchId, &Watch)> {
        // '0' follows '/', which no name contains.
        let (first, end) = ([path, "/"].concat(), [path, "0"].concat());
        let paths = self.by_path.range::<str, _>((Included(&*first), Excluded(&*end)));
        self.watches(paths.map(|(_, ids)| ids))
    }

    fn watches<'a>(
        &'a self,
        ids: impl IntoIterator<Item = &'a BTreeSet<WatchId>>,
    ) -> impl Iterator<Item = (WatchId, &'a Watch)> {
        ids.into_iter().flatten().filter_map(|id| {
            self.visits.update(|visits| visits + 1);
            Some((*id, self.all.get(id)?))
        })
    }
}
