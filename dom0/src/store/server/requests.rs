//! What requests do.

use super::audience::Open;
use super::{ConnectionId, Store, watch_bytes};
use crate::contain::indivisible;
use crate::store::path::{INTRODUCE_DOMAIN, Path, RELEASE_DOMAIN, home};
use crate::store::permission::{Owner, PRIVILEGED, Permissions};
use crate::store::request::Request;
use crate::store::transaction::{Transaction, View};
use crate::store::watch::Watch;
use alloc::vec::Vec;
use guest_kernel::store::wire::strings;
use pv_abi::domid::DOMID_FIRST_RESERVED;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::{XENSTORE_PAYLOAD_MAX, XS_INTRODUCE, XS_RELEASE};

/// Longest payload of a reply.
const REPLY: usize = XENSTORE_PAYLOAD_MAX as usize;

impl Store {
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
    pub(super) fn commit(&mut self, owner: Owner, transaction: Transaction) -> Result<(), Errno> {
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
}

/// Which special path's permissions it is.
fn special_index(path: &Path) -> Option<usize> {
    [INTRODUCE_DOMAIN, RELEASE_DOMAIN].iter().position(|special| *special == path.as_str())
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
