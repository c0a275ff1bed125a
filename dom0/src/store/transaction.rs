//! What a transaction saw and wants, and how it ends.
//!
//! It is a *shadow* of the part of the tree that it touched: for each node what was seen of it, so that a change by others
//! is noticed, and what is to become of it. Inside, the tree looks as if the changes were made already. What it has not
//! touched yet it sees as it is now, not as it was when the transaction began; if that makes what it saw inconsistent, it
//! fails in the end, as what it saw first has changed.
//!
//! A request outside of transactions is a transaction that ends at once.

use super::path::{Path, names};
use super::permission::{Lives, Owner, PRIVILEGED, Permissions};
use super::tree::{Changes, Data, Id, Tree};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem::size_of;
use guest_kernel::store::wire::Rights;
use pv_abi::errno::Errno;

/// A shadow's number. They are in the order in which they were touched first, so those above come first.
type At = usize;
const ROOT: At = 0;

/// What a transaction knows of a node, and wants of it.
#[derive(Default, Debug)]
struct Shadow {
    above: At,
    name: Box<str>,
    children: BTreeMap<Box<str>, At>,
    /// If it was looked at: the stamp that the node's data had, or that there was no node.
    saw: Option<Option<u64>>,
    /// If its children were listed: the list's stamp.
    saw_list: Option<u64>,
    /// If it was removed: the stamp of all below.
    saw_below: Option<u64>,
    /// The tree's node, and all below, is to be removed.
    removed: bool,
    /// What is to be there then, if that isn't what the tree has.
    data: Option<Data>,
    /// Whether a client named it to change it, so that watches fire for it.
    named: bool,
}

/// A transaction.
#[derive(Debug)]
pub struct Transaction {
    shadows: Vec<Shadow>,
    /// Bytes that it takes.
    bytes: usize,
    /// How many changes it wants.
    changes: u64,
}

/// A node that was found: its shadow, and what the tree has there if the transaction doesn't remove it.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: At,
    base: Option<Id>,
    /// The transaction removes the tree's node here or above: what the tree has doesn't matter any more.
    cut: bool,
}

/// A request's view: the tree as it will be.
pub struct View<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// The transaction.
    pub transaction: &'a mut Transaction,
    /// The domain that asks.
    pub domain: u16,
    /// Which domains there are.
    pub lives: &'a Lives,
}

/// What becomes of a node, for those who watch it.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// The node's path.
    pub path: &'a str,
    /// Its permissions before, if it was there, and after, if it will be.
    pub permissions: [Option<&'a Permissions>; 2],
    /// Those of the node above, if the list of its children changed.
    pub above: Option<&'a Permissions>,
    /// Whether all below goes with it.
    pub removed: bool,
}

impl Transaction {
    /// One that has seen nothing.
    pub fn new() -> Transaction {
        Transaction { shadows: Vec::from([Shadow::default()]), bytes: 0, changes: 0 }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many nodes it has touched.
    pub fn touched(&self) -> usize {
        self.shadows.len()
    }

    fn shadow(&mut self, above: At, name: &str) -> At {
        if let Some(at) = self.shadows[above].children.get(name) {
            return *at;
        }
        let at = self.shadows.len();
        self.shadows[above].children.insert(name.into(), at);
        self.shadows.push(Shadow { above, name: name.into(), ..Shadow::default() });
        self.bytes += size_of::<Shadow>() + 2 * name.len();
        at
    }

    fn set(&mut self, at: At, data: Data) {
        self.bytes += data.value.len() + size_of::<(Owner, Rights)>() * data.permissions.len();
        self.shadows[at].data = Some(data);
        self.changes += 1;
    }

    /// What the tree has for each shadow, apart from this transaction's changes.
    fn resolve(&self, tree: &Tree) -> Vec<Option<Id>> {
        let mut found: Vec<Option<Id>> = Vec::with_capacity(self.shadows.len());
        found.push(Some(tree.root()));
        for shadow in &self.shadows[1..] {
            found.push(found[shadow.above].and_then(|above| tree.child(above, &shadow.name)));
        }
        found
    }

    /// Whether all that it saw is still so.
    pub fn is_current(&self, tree: &Tree) -> bool {
        self.shadows.iter().zip(self.resolve(tree)).all(|(shadow, base)| {
            let node = base.map(|id| &tree[id]);
            let same = |saw: Option<u64>, now: Option<u64>| saw.is_none() || saw == now;
            shadow.saw.is_none_or(|saw| saw == node.map(|node| node.stamp))
                && same(shadow.saw_list, node.map(|node| node.listed))
                && same(shadow.saw_below, node.map(|node| node.below))
        })
    }

    /// What its end would give and take.
    pub fn changes(&self, tree: &Tree, lives: &Lives) -> Changes {
        let mut changes = Changes::default();
        let mut gone = Vec::with_capacity(self.shadows.len());
        for (shadow, base) in self.shadows.iter().zip(self.resolve(tree)) {
            // Below what is removed the tree has nothing any more: the walk has counted it.
            let above_gone = gone.get(shadow.above).copied().unwrap_or(false);
            gone.push(above_gone || shadow.removed);
            let base = base.filter(|_| !above_gone);
            match base {
                Some(id) if shadow.removed => {
                    tree.walk(id, &shadow.name, |name, node| changes.add(-1, name, &node.data, lives));
                }
                Some(id) if shadow.data.is_some() => changes.add(-1, &shadow.name, &tree[id].data, lives),
                _ => {}
            }
            if let Some(data) = &shadow.data {
                changes.add(1, &shadow.name, data, lives);
            }
        }
        changes
    }

    /// Makes its changes, as number `stamp`. Tells of each: of a removal before, of others after.
    pub fn apply(self, tree: &mut Tree, stamp: u64, mut tell: impl FnMut(&Tree, &Notice<'_>)) {
        let mut ids: Vec<Option<Id>> = Vec::with_capacity(self.shadows.len());
        let mut paths: Vec<String> = Vec::with_capacity(self.shadows.len());
        for (at, shadow) in self.shadows.into_iter().enumerate() {
            let above = if at == ROOT { None } else { ids[shadow.above] };
            let mut id = if at == ROOT { Some(tree.root()) } else { above.and_then(|id| tree.child(id, &shadow.name)) };
            let path = match paths.get(shadow.above) {
                None => String::from("/"),
                Some(above) if above == "/" => ["/", &*shadow.name].concat(),
                Some(above) => [above, "/", &*shadow.name].concat(),
            };
            if let Some(old) = id.filter(|_| shadow.removed) {
                let permissions = [Some(&tree[old].data.permissions), None];
                let above = Some(&tree[tree.parent(old)].data.permissions);
                tell(tree, &Notice { path: &path, permissions, above, removed: true });
                tree.remove(old, &shadow.name, stamp);
                id = None;
            }
            if let Some(data) = shadow.data {
                let (before, created) = (id.map(|id| tree[id].data.permissions.clone()), id.is_none());
                match (id, above) {
                    (Some(id), _) => tree.set(id, data, stamp),
                    (None, Some(above)) => id = Some(tree.insert(above, &shadow.name, data, stamp)),
                    // What it wants is below a node that it has seen or makes: there is always one above.
                    (None, None) => {}
                }
                if let Some(id) = id.filter(|_| shadow.named) {
                    let permissions = [before.as_ref(), Some(&tree[id].data.permissions)];
                    let above = created.then(|| &tree[tree.parent(id)].data.permissions);
                    tell(tree, &Notice { path: &path, permissions, above, removed: false });
                }
            }
            ids.push(id);
            paths.push(path);
        }
    }

    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        self.changes > 0
    }
}

impl View<'_> {
    fn shadow(&self, place: Place) -> &Shadow {
        &self.transaction.shadows[place.at]
    }

    fn data(&self, place: Place) -> Option<&Data> {
        self.shadow(place).data.as_ref().or_else(|| place.base.map(|id| &self.tree[id].data))
    }

    fn step(&mut self, place: Place, name: &str) -> Place {
        let at = self.transaction.shadow(place.at, name);
        let base = place.base.and_then(|id| self.tree.child(id, name));
        let cut = place.cut || self.transaction.shadows[at].removed;
        Place { at, base: base.filter(|_| !cut), cut }
    }

    /// Notes what the tree has at a place, if that is what the view shows.
    fn see(&mut self, place: Place) {
        let stamp = place.base.map(|id| self.tree[id].stamp);
        let shadow = &mut self.transaction.shadows[place.at];
        if shadow.data.is_none() && !place.cut {
            shadow.saw.get_or_insert(stamp);
        }
    }

    /// The node at a path, or the last one on the way to it, and the names from there.
    fn locate<'p>(&mut self, path: &'p Path) -> (Place, Vec<&'p str>) {
        let mut place = Place { at: ROOT, base: Some(self.tree.root()), cut: false };
        let mut names = names(path.as_str()).peekable();
        while let Some(name) = names.peek() {
            let next = self.step(place, name);
            if self.data(next).is_none() {
                self.see(next);
                break;
            }
            place = next;
            names.next();
        }
        self.see(place);
        (place, names.collect())
    }

    /// As [`View::locate`], for a client that wants these rights on the node, or else on the last one on the way to it.
    fn reach<'p>(&mut self, path: &'p Path, wanted: Rights) -> Result<(Place, Vec<&'p str>), Errno> {
        let (place, missing) = self.locate(path);
        let rights = self.data(place).map_or(Rights::NONE, |data| data.permissions.rights_of(self.domain, self.lives));
        if rights.include(wanted) { Ok((place, missing)) } else { Err(Errno::EACCES) }
    }

    /// The node at a path.
    fn open(&mut self, path: &Path, wanted: Rights) -> Result<(Place, Data), Errno> {
        let (place, missing) = self.reach(path, wanted)?;
        let data = self.data(place).filter(|_| missing.is_empty());
        Ok((place, data.cloned().ok_or(Errno::ENOENT)?))
    }

    /// A node's value.
    pub fn read(&mut self, path: &Path) -> Result<Vec<u8>, Errno> {
        Ok(self.open(path, Rights::READ)?.1.value)
    }

    /// A node's permissions.
    pub fn permissions(&mut self, path: &Path) -> Result<Permissions, Errno> {
        Ok(self.open(path, Rights::READ)?.1.permissions)
    }

    /// The names of a node's children in order, and a number that is another one when they change.
    pub fn directory(&mut self, path: &Path) -> Result<(u64, Vec<String>), Errno> {
        let (place, _) = self.open(path, Rights::READ)?;
        let listed = place.base.map_or(0, |id| self.tree[id].listed);
        if place.base.is_some() {
            self.transaction.shadows[place.at].saw_list.get_or_insert(listed);
        }
        let shadow = self.shadow(place);
        let mut names: BTreeSet<&str> = place.base.into_iter().flat_map(|id| self.tree.children(id)).collect();
        for (name, at) in &shadow.children {
            let child = &self.transaction.shadows[*at];
            if child.data.is_some() {
                names.insert(name);
            } else if child.removed {
                names.remove(&**name);
            }
        }
        Ok((listed + self.transaction.changes, names.into_iter().map(ToString::to_string).collect()))
    }

    /// Makes the nodes that are missing on the way to a path; where they end.
    fn make(&mut self, mut place: Place, missing: &[&str]) -> Place {
        for name in missing {
            let above = self.data(place).map(|data| data.permissions.inherited(self.domain, self.lives));
            place = self.step(place, name);
            self.see(place);
            if let Some(permissions) = above {
                self.transaction.set(place.at, Data { value: Vec::new(), permissions });
            }
        }
        place
    }

    fn change(&mut self, place: Place, data: Data) {
        self.transaction.set(place.at, data);
        self.transaction.shadows[place.at].named = true;
    }

    /// Writes a node, and makes what is missing.
    pub fn write(&mut self, path: &Path, value: &[u8]) -> Result<(), Errno> {
        let (place, missing) = self.reach(path, Rights::WRITE)?;
        let place = self.make(place, &missing);
        let permissions = self.data(place).map(|data| data.permissions.clone()).ok_or(Errno::ENOENT)?;
        self.change(place, Data { value: value.to_vec(), permissions });
        Ok(())
    }

    /// Makes a node and what is missing above, if it isn't there.
    pub fn mkdir(&mut self, path: &Path) -> Result<(), Errno> {
        let (place, missing) = self.reach(path, Rights::WRITE)?;
        if !missing.is_empty() {
            let place = self.make(place, &missing);
            self.transaction.shadows[place.at].named = true;
        }
        Ok(())
    }

    /// Removes a node and all below.
    pub fn remove(&mut self, path: &Path) -> Result<(), Errno> {
        if path.is_root() {
            return Err(Errno::EINVAL);
        }
        let (place, missing) = self.reach(path, Rights::WRITE)?;
        match missing.len() {
            0 => {}
            1 => return Ok(()),
            _ => return Err(Errno::ENOENT),
        }
        let below = place.base.map(|id| self.tree[id].below);
        let shadow = &mut self.transaction.shadows[place.at];
        shadow.saw_below = shadow.saw_below.or(below);
        shadow.removed = true;
        self.transaction.changes += 1;
        let mut todo = Vec::from([place.at]);
        while let Some(at) = todo.pop() {
            self.transaction.shadows[at].data = None;
            todo.extend(self.transaction.shadows[at].children.values());
        }
        Ok(())
    }

    /// Sets a node's permissions. The caller owns it; only domain 0 may give it to another.
    pub fn set_permissions(&mut self, path: &Path, permissions: Permissions) -> Result<(), Errno> {
        let (place, data) = self.open(path, Rights::WRITE)?;
        if self.domain != PRIVILEGED {
            let owner = data.permissions.owner(self.lives);
            if owner != self.lives.now(self.domain) {
                return Err(Errno::EACCES);
            }
            if permissions.owner(self.lives) != owner {
                return Err(Errno::EPERM);
            }
        }
        self.change(place, Data { permissions, ..data });
        Ok(())
    }
}
