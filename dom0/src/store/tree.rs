//! The nodes, in one table, with links by number: no walk and no removal recurses, however deep a client builds.

use super::path::names;
use super::permission::{Lives, Owner, Permissions};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Index;
use slab::Slab;

/// A node's number.
pub type Id = usize;

/// What a client sets of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data {
    /// Its value.
    pub value: Vec<u8>,
    /// Who may do what.
    pub permissions: Permissions,
}

/// A node. Stamps are the numbers of changes, which grow.
#[derive(Debug)]
pub struct Node {
    /// What a client sets.
    pub data: Data,
    /// The last change of the data.
    pub stamp: u64,
    /// The last change of the list of children.
    pub listed: u64,
    /// The last change of anything here or below.
    pub below: u64,
    parent: Id,
    children: BTreeMap<Box<str>, Id>,
}

/// The nodes. The root is always there.
#[derive(Debug)]
pub struct Tree {
    nodes: Slab<Node>,
    root: Id,
    /// Nodes looked at, for tests of what a request costs.
    #[cfg(test)]
    pub visits: core::cell::Cell<usize>,
}

impl Index<Id> for Tree {
    type Output = Node;

    fn index(&self, id: Id) -> &Node {
        &self.nodes[id]
    }
}

/// Memory that a node takes beside its name, value and permissions: an estimate, for quotas.
const NODE_BYTES: usize = 160;
/// The same for an entry of its permissions.
const ENTRY_BYTES: usize = 12;

/// The memory of a node of this name.
pub fn bytes_of(name: &str, data: &Data) -> usize {
    NODE_BYTES + name.len() + data.value.len() + ENTRY_BYTES * data.permissions.len()
}

impl Tree {
    /// A tree of one node.
    pub fn new(data: Data) -> Tree {
        let mut nodes = Slab::new();
        let node = Node { data, stamp: 0, listed: 0, below: 0, parent: 0, children: BTreeMap::new() };
        let root = nodes.insert(node);
        Tree {
            nodes,
            root,
            #[cfg(test)]
            visits: core::cell::Cell::new(0),
        }
    }

    /// The root.
    pub fn root(&self) -> Id {
        self.root
    }

    /// A child of a node.
    pub fn child(&self, id: Id, name: &str) -> Option<Id> {
        #[cfg(test)]
        self.visits.set(self.visits.get() + 1);
        self[id].children.get(name).copied()
    }

    /// The names of a node's children, in order.
    pub fn children(&self, id: Id) -> impl Iterator<Item = &str> {
        self[id].children.keys().map(|name| &**name)
    }

    /// The node at a path.
    pub fn find(&self, path: &str) -> Option<Id> {
        names(path).try_fold(self.root, |id, name| self.child(id, name))
    }

    /// The node above; the root's is itself.
    pub fn parent(&self, id: Id) -> Id {
        self[id].parent
    }

    /// Calls `each` for a node and all below it, with its name.
    pub fn walk(&self, id: Id, name: &str, mut each: impl FnMut(&str, &Node)) {
        each(name, &self[id]);
        let mut todo = Vec::from([id]);
        while let Some(id) = todo.pop() {
            for (name, child) in &self[id].children {
                each(name, &self[*child]);
                todo.push(*child);
            }
        }
    }

    /// The paths of all nodes below the root for which `is_one` holds, but not of what is below one of them.
    pub fn topmost(&self, is_one: impl Fn(&Node) -> bool) -> Vec<String> {
        let (mut found, mut path) = (Vec::new(), String::new());
        let below = |id: Id, length| self[id].children.iter().map(move |(name, child)| (length, &**name, *child));
        // How much of the path is that of the node above, and the node.
        let mut todo: Vec<(usize, &str, Id)> = below(self.root, 0).collect();
        while let Some((above, name, id)) = todo.pop() {
            path.truncate(above);
            path.push('/');
            path.push_str(name);
            if is_one(&self[id]) {
                found.push(path.clone());
            } else {
                todo.extend(below(id, path.len()));
            }
        }
        found
    }

    /// Sets a node's data in change number `stamp`.
    pub fn set(&mut self, id: Id, data: Data, stamp: u64) {
        self.nodes[id].data = data;
        self.nodes[id].stamp = stamp;
        self.stamp_above(id, stamp);
    }

    /// Makes a node, in change number `stamp`. There is none of this name.
    pub fn insert(&mut self, parent: Id, name: &str, data: Data, stamp: u64) -> Id {
        let node = Node { data, stamp, listed: stamp, below: stamp, parent, children: BTreeMap::new() };
        let id = self.nodes.insert(node);
        self.nodes[parent].children.insert(name.into(), id);
        self.nodes[parent].listed = stamp;
        self.stamp_above(id, stamp);
        id
    }

    /// Removes a node and all below it, in change number `stamp`. It isn't the root.
    pub fn remove(&mut self, id: Id, name: &str, stamp: u64) {
        let parent = self[id].parent;
        self.nodes[parent].children.remove(name);
        self.nodes[parent].listed = stamp;
        self.stamp_above(parent, stamp);
        let mut todo = Vec::from([id]);
        while let Some(id) = todo.pop() {
            todo.extend(self.nodes.remove(id).children.into_values());
        }
    }

    fn stamp_above(&mut self, mut id: Id, stamp: u64) {
        loop {
            self.nodes[id].below = stamp;
            if id == self.root {
                return;
            }
            id = self[id].parent;
        }
    }

    /// How many nodes there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// What nodes are added to owners, or taken from them.
#[derive(Default, Debug)]
pub struct Changes(pub BTreeMap<Owner, Amount>);

/// Nodes, and the memory that they take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// How many nodes.
    pub nodes: i64,
    /// Their memory.
    pub bytes: i64,
}

impl Changes {
    /// A node comes (1) or goes (-1).
    pub fn add(&mut self, sign: i64, name: &str, data: &Data, lives: &Lives) {
        let amount = self.0.entry(data.permissions.owner(lives)).or_default();
        amount.nodes += sign;
        amount.bytes += sign * i64::try_from(bytes_of(name, data)).unwrap_or(i64::MAX);
    }
}
