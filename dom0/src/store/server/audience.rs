//! Who is told of changes: the clients, with what they watch.

use super::{ConnectionId, Wake};
use crate::store::events::Events;
use crate::store::path::{Path, prefixes};
use crate::store::permission::{Lives, Owner, PRIVILEGED, Permissions};
use crate::store::transaction::{Notice, Transaction};
use crate::store::tree::Tree;
use crate::store::watch::{Watch, WatchId, Watches};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use guest_kernel::store::wire::Rights;

/// As [`Limits::events`](crate::store::quota::Limits::events), for domain 0.
const PRIVILEGED_EVENTS: usize = 4096;

/// A transaction of a client's.
pub enum Open {
    Live(Transaction),
    /// It broke a limit, and all that is left is to say so.
    Spent,
}

impl Open {
    /// What it takes of its client's account.
    pub fn bytes(&self) -> usize {
        match self {
            Open::Live(transaction) => transaction.bytes(),
            Open::Spent => 0,
        }
    }
}

/// A connection.
pub struct Client {
    pub owner: Owner,
    pub events: Events,
    pub watches: BTreeMap<(Path, Box<[u8]>), WatchId>,
    pub transactions: BTreeMap<u32, Open>,
    pub last_transaction: u32,
    /// Called when an event comes and none was there.
    pub wake: Option<Wake>,
}

impl Client {
    pub fn is_privileged(&self) -> bool {
        self.owner.domain == PRIVILEGED
    }
}

/// Who is told of changes.
#[derive(Default)]
pub struct Audience {
    pub watches: Watches,
    pub clients: BTreeMap<ConnectionId, Client>,
}

impl Audience {
    /// Queues events for all who watch a change and may know of it.
    pub fn tell(&mut self, tree: &Tree, notice: &Notice<'_>, lives: &Lives, limit: usize) {
        let mut due: Vec<(ConnectionId, WatchId, bool)> = Vec::new();
        let may_know = |watch: &Watch, of: &[&Permissions]| {
            let owner = self.clients.get(&watch.connection).map(|client| client.owner);
            owner.is_some_and(|owner| of.iter().any(|of| of.rights_of(owner.domain, lives).include(Rights::READ)))
        };
        let concerned: Vec<&Permissions> = notice.permissions.into_iter().chain([notice.above]).flatten().collect();
        for (id, watch) in prefixes(notice.path).flat_map(|path| self.watches.at(path)) {
            if may_know(watch, &concerned) {
                due.push((watch.connection, id, watch.path.as_str() == notice.path));
            }
        }
        if notice.removed {
            for (id, watch) in self.watches.below(notice.path) {
                // Only nodes that are there are removed.
                if let Some(node) = tree.find(watch.path.as_str())
                    && may_know(watch, &[node, tree.parent(node)].map(|node| &tree[node].data.permissions))
                {
                    due.push((watch.connection, id, true));
                }
            }
        }
        for (connection, watch, is_own_path) in due {
            self.push(connection, watch, (!is_own_path).then_some(notice.path), limit);
        }
    }

    /// Queues an event for one.
    pub fn push(&mut self, id: ConnectionId, watch: WatchId, path: Option<&str>, limit: usize) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let was_empty = client.events.is_empty();
        client.events.push(watch, path, if client.is_privileged() { PRIVILEGED_EVENTS } else { limit });
        if let Some(wake) = client.wake.as_ref().filter(|_| was_empty) {
            wake();
        }
    }
}
