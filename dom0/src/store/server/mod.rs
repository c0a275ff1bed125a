//! The server: connections, and the domains that have them.

mod audience;
mod requests;

use super::events::Events;
use super::path::{Given, INTRODUCE_DOMAIN, Path, RELEASE_DOMAIN};
use super::permission::{Lives, Owner, PRIVILEGED, Permissions};
use super::quota::{Accounts, Limits};
use super::transaction::{Notice, Transaction, View};
use super::tree::{Data, Tree};
use crate::contain::indivisible;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use audience::{Audience, Client};
use guest_kernel::store::wire::{Permission, Rights};
use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;

/// Memory that a watch takes beside its path and token, each of which is kept twice: an estimate, for quotas.
const WATCH_BYTES: usize = 256;
/// What a look at a node or a watch costs, in nanoseconds.
const VISIT_COST: u64 = 60;

/// A connection's number, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConnectionId(u64);

/// What is called when a connection has an event again, and when it ends.
pub type Wake = Box<dyn Fn()>;

/// Who carries out what the server decides about the rings of domains. The server is in the middle of a request then: it
/// must not be asked for anything.
pub trait Rings {
    /// A domain is introduced: its ring, in the machine frame `frame`, and its port `port` carry the requests of the
    /// connection `id` from now on.
    ///
    /// # Errors
    /// Why not. There is no such connection then.
    fn open(&mut self, id: ConnectionId, domain: u16, frame: u64, port: u32) -> Result<Wake, Errno>;

    /// A domain is introduced again: its ring stays as it is, and its port is this one.
    ///
    /// # Errors
    /// Why not. It has no port then.
    fn rebind(&mut self, domain: u16, port: u32) -> Result<(), Errno>;

    /// A domain is released: its connection has ended.
    fn close(&mut self, domain: u16);
}

/// The server.
pub struct Store {
    tree: Tree,
    audience: Audience,
    accounts: Accounts,
    lives: Lives,
    introduced: BTreeSet<u16>,
    rings: Box<dyn Rings>,
    /// Who may see the events of `@introduceDomain` and `@releaseDomain`.
    special: [Permissions; 2],
    last_connection: u64,
    /// The number of the last change.
    stamp: u64,
}

impl Store {
    /// A server with a root node, which only domain 0 may read.
    pub fn new(limits: Limits, rings: Box<dyn Rings>) -> Store {
        let lives = Lives::default();
        let permissions = Permissions::new(&[Permission::new(PRIVILEGED, Rights::NONE)], &lives);
        Store {
            tree: Tree::new(Data { value: Vec::new(), permissions: permissions.clone() }),
            audience: Audience::default(),
            accounts: Accounts::new(limits),
            lives,
            introduced: BTreeSet::new(),
            rings,
            special: [permissions.clone(), permissions],
            last_connection: 0,
            stamp: 0,
        }
    }

    /// A new connection of a domain.
    pub fn connect(&mut self, domain: u16) -> ConnectionId {
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        let client = Client {
            owner: self.lives.now(domain),
            events: Events::default(),
            watches: BTreeMap::new(),
            transactions: BTreeMap::new(),
            last_transaction: 0,
            wake: None,
        };
        self.audience.clients.insert(id, client);
        id
    }

    /// Ends a connection, with its watches and transactions.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.reset(id);
        // Whoever serves it is to see that it is gone.
        if let Some(wake) = self.audience.clients.remove(&id).and_then(|client| client.wake) {
            wake();
        }
    }

    /// Whether there is such a connection.
    pub fn is_connected(&self, id: ConnectionId) -> bool {
        self.audience.clients.contains_key(&id)
    }

    /// Ends all watches and transactions of a connection, and drops its events.
    pub fn reset(&mut self, id: ConnectionId) {
        let Some(client) = self.audience.clients.get_mut(&id) else { return };
        indivisible(|| {
            for ((path, token), watch) in core::mem::take(&mut client.watches) {
                self.audience.watches.remove(watch);
                self.accounts.refund(client.owner, watch_bytes(&path, &token));
            }
            for open in core::mem::take(&mut client.transactions).into_values() {
                self.accounts.refund(client.owner, open.bytes());
            }
            client.events = Events::default();
        });
    }

    /// Has `wake` called when an event comes for a connection that had none, and when it ends.
    pub fn on_event(&mut self, id: ConnectionId, wake: Wake) {
        if let Some(client) = self.audience.clients.get_mut(&id) {
            client.wake = Some(wake);
        }
    }

    /// The payload of a connection's next event.
    pub fn next_event(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        indivisible(|| {
            let (watch, path) = self.audience.clients.get_mut(&id)?.events.pop()?;
            let watch = self.audience.watches.get(watch)?;
            let path = path.as_deref().unwrap_or(watch.path.as_str());
            Some([&path.as_bytes()[watch.left_out..], b"\0", &watch.token, b"\0"].concat())
        })
    }

    /// A domain that was created has a connection from now on. As with Xen's server, one that has it already only gets a new
    /// port.
    fn introduce(&mut self, domain: u16, frame: u64, port: u32) -> Result<(), Errno> {
        if domain == PRIVILEGED || domain >= DOMID_FIRST_RESERVED || port == 0 {
            return Err(Errno::EINVAL);
        }
        if self.introduced.contains(&domain) {
            return self.rings.rebind(domain, port);
        }
        let id = self.connect(domain);
        match self.rings.open(id, domain, frame, port) {
            Ok(wake) => self.on_event(id, wake),
            Err(errno) => {
                self.disconnect(id);
                return Err(errno);
            }
        }
        self.introduced.insert(domain);
        self.announce(INTRODUCE_DOMAIN);
        Ok(())
    }

    /// A domain is gone: its connections end, the nodes that it owned are removed, and nothing is its own any more, not
    /// even for the next domain of this number.
    fn release(&mut self, domain: u16) -> Result<(), Errno> {
        if !self.introduced.remove(&domain) {
            return Err(Errno::ENOENT);
        }
        let owner = self.lives.now(domain);
        let clients = self.audience.clients.iter().filter(|(_, client)| client.owner == owner);
        for id in clients.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.disconnect(id);
        }
        self.rings.close(domain);
        self.remove_all_of(owner);
        self.accounts.forget(owner);
        self.lives.end(domain);
        self.announce(RELEASE_DOMAIN);
        Ok(())
    }

    /// Removes all nodes of an owner, wherever they are, with all below. They would count for nobody: a domain that may write
    /// among another's nodes could leave as many as it may have there each time it is created again.
    fn remove_all_of(&mut self, owner: Owner) {
        // Usually its home was all that it had, and that was removed before.
        if !self.accounts.has_nodes(owner) {
            return;
        }
        let (tree, lives, mut transaction) = (&self.tree, &self.lives, Transaction::new());
        for path in tree.topmost(|node| node.data.permissions.owner(lives) == owner) {
            let mut view = View { tree, transaction: &mut transaction, domain: PRIVILEGED, lives };
            // Domain 0 may remove everything that is there.
            let _ = Given::parse(path.as_bytes(), PRIVILEGED).and_then(|given| view.remove(&given.path));
        }
        let _ = self.commit(self.lives.now(PRIVILEGED), transaction);
    }

    /// An event of a special path.
    fn announce(&mut self, path: &str) {
        let permissions = &self.special[usize::from(path == RELEASE_DOMAIN)];
        let notice = Notice { path, permissions: [None, Some(permissions)], above: None, removed: false };
        self.audience.tell(&self.tree, &notice, &self.lives, self.accounts.limits.events);
    }

    /// Nodes looked at and watches looked at so far: what all requests together have cost beside their own handling.
    pub fn visits(&self) -> (usize, usize) {
        (self.tree.visits.get(), self.audience.watches.visits.get())
    }

    /// What all requests have cost so far beside a request's price, in nanoseconds. Not what it took: on a busy machine that is
    /// anything.
    pub fn cost(&self) -> u64 {
        let (nodes, watches) = self.visits();
        (nodes + watches) as u64 * VISIT_COST
    }

    /// How many nodes there are, and how many nodes and bytes a domain has.
    #[cfg(test)]
    pub fn usage(&self, domain: u16) -> (usize, (usize, usize)) {
        (self.tree.len(), self.accounts.usage(self.lives.now(domain)))
    }

    /// The last connection of a domain.
    #[cfg(test)]
    pub fn connection_of(&self, domain: u16) -> Option<ConnectionId> {
        let owner = self.lives.now(domain);
        self.audience.clients.iter().rev().find(|(_, client)| client.owner == owner).map(|(id, _)| *id)
    }

    /// Events that wait for a connection.
    #[cfg(test)]
    pub fn waiting(&self, id: ConnectionId) -> usize {
        self.audience.clients[&id].events.len()
    }
}

fn watch_bytes(path: &Path, token: &[u8]) -> usize {
    WATCH_BYTES + 2 * (path.as_str().len() + token.len())
}
