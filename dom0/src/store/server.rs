//! Connections, and what requests do.

use super::events::Events;
use super::path::{Given, INTRODUCE_DOMAIN, Path, RELEASE_DOMAIN, home, prefixes};
use super::permission::{Lives, Owner, PRIVILEGED, Permissions};
use super::quota::{Accounts, Limits};
use super::request::Request;
use super::transaction::{Notice, Transaction, View};
use super::tree::{Data, Tree};
use super::watch::{Watch, WatchId, Watches};
use crate::contain::indivisible;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use guest_kernel::store::wire::{Permission, Rights, strings};
use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::{XENSTORE_PAYLOAD_MAX, XS_INTRODUCE, XS_RELEASE};

/// Longest payload of a reply.
const REPLY: usize = XENSTORE_PAYLOAD_MAX as usize;
/// As [`Limits::events`], for domain 0.
const PRIVILEGED_EVENTS: usize = 4096;
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

/// A transaction of a client's.
enum Open {
    Live(Transaction),
    /// It broke a limit, and all that is left is to say so.
    Spent,
}

/// A connection.
struct Client {
    owner: Owner,
    events: Events,
    watches: BTreeMap<(Path, Box<[u8]>), WatchId>,
    transactions: BTreeMap<u32, Open>,
    last_transaction: u32,
    /// Called when an event comes and none was there.
    wake: Option<Wake>,
}

impl Client {
    fn is_privileged(&self) -> bool {
        self.owner.domain == PRIVILEGED
    }
}

/// Who is told of changes.
#[derive(Default)]
struct Audience {
    watches: Watches,
    clients: BTreeMap<ConnectionId, Client>,
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

    /// Makes a connection's request: the reply's payload.
    ///
    /// # Errors
    /// The error that the reply is to name. `EIO` if there is no such connection.
    pub fn request(&mut self, id: ConnectionId, kind: u32, tx: u32, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let owner = self.audience.clients.get(&id).ok_or(Errno::EIO)?.owner;
        // Whatever it says.
        if matches!(kind, XS_INTRODUCE | XS_RELEASE) && owner.domain != PRIVILEGED {
            return Err(Errno::EACCES);
        }
        let request = Request::parse(kind, payload, owner.domain)?;
        self.check(&request, owner.domain)?;
        let reply = indivisible(|| self.carry_out(id, tx, request))?;
        if reply.len() > REPLY { Err(Errno::E2BIG) } else { Ok(reply) }
    }

    /// Makes a request that may be made.
    fn carry_out(&mut self, id: ConnectionId, tx: u32, request: Request<'_>) -> Result<Vec<u8>, Errno> {
        const OK: &[u8] = b"OK\0";
        Ok(match request {
            Request::Read(at) => self.view(id, tx, |view| view.read(&at.path))?,
            Request::Directory(at) => {
                let (_, names) = self.view(id, tx, |view| view.directory(&at.path))?;
                strings(names)
            }
            Request::DirectoryPart(at, offset) => {
                let (generation, names) = self.view(id, tx, |view| view.directory(&at.path))?;
                directory_part(generation, &strings(names), offset)?
            }
            Request::Permissions(at) => {
                let permissions = match special_index(&at.path) {
                    Some(index) => self.special[index].clone(),
                    None => self.view(id, tx, |view| view.permissions(&at.path))?,
                };
                strings(permissions.list(&self.lives))
            }
            Request::Write(at, value) => self.view(id, tx, |view| view.write(&at.path, value)).map(|()| OK.to_vec())?,
            Request::Mkdir(at) => self.view(id, tx, |view| view.mkdir(&at.path)).map(|()| OK.to_vec())?,
            Request::Remove(at) => self.view(id, tx, |view| view.remove(&at.path)).map(|()| OK.to_vec())?,
            Request::SetPermissions(at, all) => {
                let permissions = Permissions::new(&all, &self.lives);
                match special_index(&at.path) {
                    Some(index) => self.special[index] = permissions,
                    None => self.view(id, tx, |view| view.set_permissions(&at.path, permissions))?,
                }
                OK.to_vec()
            }
            Request::Watch(at, token) => {
                let watch = Watch { connection: id, path: at.path, left_out: at.left_out, token: token.into() };
                self.watch(watch).map(|()| OK.to_vec())?
            }
            Request::Unwatch(at, token) => self.unwatch(id, at.path, token).map(|()| OK.to_vec())?,
            Request::ResetWatches => {
                self.reset(id);
                OK.to_vec()
            }
            Request::Start if tx != 0 => return Err(Errno::EBUSY),
            Request::Start => strings([self.start(id)?]),
            Request::End(commit) => self.end(id, tx, commit).map(|()| OK.to_vec())?,
            Request::DomainPath(of) => strings([home(of)]),
            Request::IsIntroduced(of) => {
                strings([if of == PRIVILEGED || self.introduced.contains(&of) { "T" } else { "F" }])
            }
            Request::Introduce { domain, frame, port } => self.introduce(domain, frame, port).map(|()| OK.to_vec())?,
            Request::Release(domain) => self.release(domain).map(|()| OK.to_vec())?,
        })
    }

    /// What can be refused without a look at the tree.
    fn check(&self, request: &Request<'_>, domain: u16) -> Result<(), Errno> {
        let limits = &self.accounts.limits;
        let is_privileged = domain == PRIVILEGED;
        if let Some(path) = request.path().map(|given| &given.path) {
            if !is_privileged && path.own_len() > limits.path {
                return Err(Errno::EINVAL);
            }
            let may_be_special = match request {
                Request::Watch(..) | Request::Unwatch(..) => true,
                Request::Permissions(_) | Request::SetPermissions(..) => special_index(path).is_some() && is_privileged,
                _ => false,
            };
            if path.is_special() && !may_be_special {
                return Err(Errno::EINVAL);
            }
        }
        match request {
            Request::Write(_, value) if !is_privileged && value.len() > limits.value => Err(Errno::ENOSPC),
            Request::SetPermissions(_, all) if !is_privileged && all.len() > limits.permissions => Err(Errno::ENOSPC),
            Request::SetPermissions(_, all) if all.iter().any(|entry| entry.domain >= DOMID_FIRST_RESERVED) => {
                Err(Errno::EINVAL)
            }
            _ => Ok(()),
        }
    }

    /// Lets `act` read and change the tree, in a transaction of the client's or in one of its own.
    fn view<T>(
        &mut self,
        id: ConnectionId,
        tx: u32,
        act: impl FnOnce(&mut View<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let client = self.audience.clients.get_mut(&id).ok_or(Errno::EIO)?;
        let (owner, is_privileged) = (client.owner, client.is_privileged());
        let (tree, lives, domain) = (&self.tree, &self.lives, owner.domain);
        if tx == 0 {
            let mut transaction = Transaction::new();
            let result = act(&mut View { tree, transaction: &mut transaction, domain, lives })?;
            if transaction.is_change() {
                self.commit(owner, transaction)?;
            }
            return Ok(result);
        }
        let open = client.transactions.get_mut(&tx).ok_or(Errno::ENOENT)?;
        let Open::Live(transaction) = open else { return Err(Errno::ENOSPC) };
        let before = transaction.bytes();
        let result = act(&mut View { tree, transaction, domain, lives });
        let (touched, after) = (transaction.touched(), transaction.bytes());
        let too_many = touched > self.accounts.limits.touched && !is_privileged;
        if too_many || self.accounts.charge(owner, after - before).is_err() {
            self.accounts.refund(owner, before);
            *open = Open::Spent;
            return Err(Errno::ENOSPC);
        }
        result
    }

    /// Makes a transaction's changes, if they are within the limits, and tells who watches.
    fn commit(&mut self, owner: Owner, transaction: Transaction) -> Result<(), Errno> {
        let changes = transaction.changes(&self.tree, &self.lives);
        if owner.domain != PRIVILEGED {
            self.accounts.allow(&changes)?;
        }
        self.accounts.change(&changes);
        self.stamp += 1;
        let (audience, lives, limit) = (&mut self.audience, &self.lives, self.accounts.limits.events);
        transaction.apply(&mut self.tree, self.stamp, |tree, notice| audience.tell(tree, notice, lives, limit));
        Ok(())
    }

    fn start(&mut self, id: ConnectionId) -> Result<u32, Errno> {
        let client = self.audience.clients.get_mut(&id).ok_or(Errno::EIO)?;
        if !client.is_privileged() && client.transactions.len() >= self.accounts.limits.transactions {
            return Err(Errno::ENOSPC);
        }
        loop {
            client.last_transaction = client.last_transaction.wrapping_add(1);
            let number = client.last_transaction;
            if number != 0 && !client.transactions.contains_key(&number) {
                client.transactions.insert(number, Open::Live(Transaction::new()));
                return Ok(number);
            }
        }
    }

    fn end(&mut self, id: ConnectionId, tx: u32, commit: bool) -> Result<(), Errno> {
        let client = self.audience.clients.get_mut(&id).ok_or(Errno::EIO)?;
        let owner = client.owner;
        let open = client.transactions.remove(&tx).ok_or(Errno::ENOENT)?;
        self.accounts.refund(owner, open.bytes());
        match open {
            _ if !commit => Ok(()),
            Open::Spent => Err(Errno::ENOSPC),
            Open::Live(transaction) if !transaction.is_current(&self.tree) => Err(Errno::EAGAIN),
            Open::Live(transaction) if transaction.is_change() => self.commit(owner, transaction),
            Open::Live(_) => Ok(()),
        }
    }

    fn watch(&mut self, watch: Watch) -> Result<(), Errno> {
        let id = watch.connection;
        let client = self.audience.clients.get_mut(&id).ok_or(Errno::EIO)?;
        let key = (watch.path.clone(), watch.token.clone());
        if client.watches.contains_key(&key) {
            return Err(Errno::EEXIST);
        }
        if !client.is_privileged() && client.watches.len() >= self.accounts.limits.watches {
            return Err(Errno::E2BIG);
        }
        self.accounts.charge(client.owner, watch_bytes(&key.0, &key.1)).map_err(|_| Errno::E2BIG)?;
        let watch = self.audience.watches.add(watch);
        client.watches.insert(key, watch);
        self.audience.push(id, watch, None, self.accounts.limits.events);
        Ok(())
    }

    fn unwatch(&mut self, id: ConnectionId, path: Path, token: &[u8]) -> Result<(), Errno> {
        let client = self.audience.clients.get_mut(&id).ok_or(Errno::EIO)?;
        let bytes = watch_bytes(&path, token);
        let watch = client.watches.remove(&(path, token.into())).ok_or(Errno::ENOENT)?;
        client.events.forget(watch);
        self.accounts.refund(client.owner, bytes);
        self.audience.watches.remove(watch);
        Ok(())
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

impl Audience {
    /// Queues events for all who watch a change and may know of it.
    fn tell(&mut self, tree: &Tree, notice: &Notice<'_>, lives: &Lives, limit: usize) {
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

    fn push(&mut self, id: ConnectionId, watch: WatchId, path: Option<&str>, limit: usize) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let was_empty = client.events.is_empty();
        client.events.push(watch, path, if client.is_privileged() { PRIVILEGED_EVENTS } else { limit });
        if let Some(wake) = client.wake.as_ref().filter(|_| was_empty) {
            wake();
        }
    }
}

impl Open {
    fn bytes(&self) -> usize {
        match self {
            Open::Live(transaction) => transaction.bytes(),
            Open::Spent => 0,
        }
    }
}

/// Which special path's permissions it is.
fn special_index(path: &Path) -> Option<usize> {
    [INTRODUCE_DOMAIN, RELEASE_DOMAIN].iter().position(|special| *special == path.as_str())
}

fn watch_bytes(path: &Path, token: &[u8]) -> usize {
    WATCH_BYTES + 2 * (path.as_str().len() + token.len())
}

/// A part of a list of names: the number of the list's last change, whole names from `offset` on as they fit, and an
/// empty name behind the last.
fn directory_part(generation: u64, list: &[u8], offset: usize) -> Result<Vec<u8>, Errno> {
    let mut reply = strings([generation]);
    let rest = list.get(offset..).ok_or(Errno::EINVAL)?;
    if reply.len() + rest.len() < REPLY {
        reply.extend_from_slice(rest);
        reply.push(0);
    } else {
        let room = &rest[..REPLY - reply.len()];
        let whole = room.iter().rposition(|byte| *byte == 0).map_or(0, |last| last + 1);
        reply.extend_from_slice(&room[..whole]);
    }
    Ok(reply)
}
