//! The server as simply as it can be said: a flat map, cloned at will.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use guest_kernel::store::wire::{Permission, Rights};
use pv_abi::errno::Errno;
use std::string::{String, ToString};

/// What a test asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Read(String),
    Write(String, u8),
    Mkdir(String),
    Remove(String),
    Directory(String),
    Permissions(String),
    SetPermissions(String, Vec<Permission>),
}

impl Ask {
    pub fn path(&self) -> &str {
        match self {
            Ask::Read(path)
            | Ask::Write(path, _)
            | Ask::Mkdir(path)
            | Ask::Remove(path)
            | Ask::Directory(path)
            | Ask::Permissions(path)
            | Ask::SetPermissions(path, _) => path,
        }
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    Value(Vec<u8>),
    Names(Vec<String>),
    Permissions(Vec<Permission>),
}

pub type Node = (Vec<u8>, Vec<Permission>);

/// All nodes by path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nodes(pub BTreeMap<String, Node>);

/// What a request changed: the path, and the nodes as they were before.
#[derive(Debug)]
pub struct Change {
    pub path: String,
    pub before: Nodes,
    pub is_removal: bool,
}

pub fn may(permissions: &[Permission], domain: u16, wanted: Rights) -> bool {
    let default = permissions[0];
    let entry = permissions[1..].iter().find(|entry| entry.domain == domain).unwrap_or(&default);
    domain == 0 || default.domain == domain || entry.rights.include(wanted)
}

pub fn above(path: &str) -> Option<&str> {
    if path == "/" {
        return None;
    }
    let end = path.rfind('/')?;
    Some(if end == 0 { "/" } else { &path[..end] })
}

pub fn covers(watched: &str, path: &str) -> bool {
    core::iter::successors(Some(path), |path| above(path)).any(|path| path == watched)
}

impl Nodes {
    pub fn new() -> Nodes {
        Nodes(BTreeMap::from([("/".to_string(), (Vec::new(), Vec::from([Permission::new(0, Rights::NONE)])))]))
    }

    /// The nearest node that is there.
    fn nearest<'p>(&self, path: &'p str) -> &'p str {
        core::iter::successors(Some(path), |path| above(path)).find(|path| self.0.contains_key(*path)).unwrap()
    }

    fn check(&self, domain: u16, path: &str, wanted: Rights) -> Result<(), Errno> {
        if may(&self.0[self.nearest(path)].1, domain, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn existing(&self, domain: u16, path: &str, wanted: Rights) -> Result<&Node, Errno> {
        self.check(domain, path, wanted)?;
        self.0.get(path).ok_or(Errno::ENOENT)
    }

    fn make(&mut self, domain: u16, path: &str) {
        if self.0.contains_key(path) {
            return;
        }
        let parent = above(path).unwrap();
        self.make(domain, parent);
        let mut permissions = self.0[parent].1.clone();
        if domain != 0 {
            permissions[0].domain = domain;
        }
        self.0.insert(path.to_string(), (Vec::new(), permissions));
    }

    /// Does what is asked; the answer, and what changed.
    pub fn act(&mut self, domain: u16, ask: &Ask) -> Result<(Answer, Option<Change>), Errno> {
        let path = ask.path();
        let before = self.clone();
        let change = |is_removal| Some(Change { path: path.to_string(), before, is_removal });
        match ask {
            Ask::Read(_) => Ok((Answer::Value(self.existing(domain, path, Rights::READ)?.0.clone()), None)),
            Ask::Permissions(_) => {
                Ok((Answer::Permissions(self.existing(domain, path, Rights::READ)?.1.clone()), None))
            }
            Ask::Directory(_) => {
                self.existing(domain, path, Rights::READ)?;
                let children = self.0.keys().filter(|child| above(child) == Some(path));
                let names = children.map(|child| child.rsplit('/').next().unwrap().to_string());
                Ok((Answer::Names(names.collect()), None))
            }
            Ask::Write(_, value) => {
                self.check(domain, path, Rights::WRITE)?;
                self.make(domain, path);
                self.0.get_mut(path).unwrap().0 = Vec::from([*value]);
                Ok((Answer::Done, change(false)))
            }
            Ask::Mkdir(_) => {
                self.check(domain, path, Rights::WRITE)?;
                let is_there = self.0.contains_key(path);
                self.make(domain, path);
                Ok((Answer::Done, change(false).filter(|_| !is_there)))
            }
            Ask::Remove(_) => {
                let parent = above(path).ok_or(Errno::EINVAL)?;
                self.check(domain, path, Rights::WRITE)?;
                if !self.0.contains_key(parent) {
                    return Err(Errno::ENOENT);
                }
                let is_there = self.0.contains_key(path);
                self.0.retain(|node, _| !covers(path, node));
                Ok((Answer::Done, change(true).filter(|_| is_there)))
            }
            Ask::SetPermissions(_, permissions) => {
                let owner = self.existing(domain, path, Rights::WRITE)?.1[0].domain;
                if domain != 0 && owner != domain {
                    return Err(Errno::EACCES);
                }
                if domain != 0 && permissions[0].domain != owner {
                    return Err(Errno::EPERM);
                }
                self.0.get_mut(path).unwrap().1 = permissions.clone();
                Ok((Answer::Done, change(false)))
            }
        }
    }

    /// A domain is gone, and what it owned, with all below; what was removed so. The root stays, as domain 0's.
    pub fn release(&mut self, domain: u16) -> Vec<Change> {
        let before = self.clone();
        let owned = |path: &str| path != "/" && before.0[path].1[0].domain == domain;
        let topmost = |path: &str| core::iter::successors(above(path), |path| above(path)).all(|above| !owned(above));
        let removed: Vec<&String> = before.0.keys().filter(|path| owned(path) && topmost(path)).collect();
        self.0.retain(|path, _| !removed.iter().any(|removed| covers(removed, path)));
        for (_, permissions) in self.0.values_mut() {
            if permissions[0].domain == domain {
                permissions[0].domain = 0;
            }
            let first = permissions[0];
            permissions.retain(|entry| entry.domain != domain);
            if permissions.first() != Some(&first) {
                permissions.insert(0, first);
            }
        }
        let change = |path: &String| Change { path: path.clone(), before: before.clone(), is_removal: true };
        removed.into_iter().map(change).collect()
    }

    /// The paths whose nodes are not the same.
    pub fn differences(&self, other: &Nodes) -> BTreeSet<String> {
        let differs = |path: &&String| self.0.get(*path) != other.0.get(*path);
        self.0.keys().chain(other.0.keys()).filter(differs).cloned().collect()
    }
}

impl Change {
    /// The path of the event that a watch gets, if it gets one. `after` is what is there now.
    pub fn event(&self, after: &Nodes, domain: u16, watched: &str) -> Option<String> {
        let is_below = self.is_removal && watched != self.path && covers(&self.path, watched);
        let path = if is_below { watched } else { &self.path };
        if !is_below && !covers(watched, &self.path) {
            return None;
        }
        if is_below && !self.before.0.contains_key(path) {
            return None;
        }
        let (before, now) = (self.before.0.get(path), after.0.get(path));
        // Who can list a node knows of its children.
        let listed = if self.is_removal { &self.before } else { after };
        let parent = above(path).filter(|_| before.is_none() != now.is_none()).map(|parent| &listed.0[parent]);
        let known = [before, now, parent].into_iter().flatten();
        known.into_iter().any(|node| may(&node.1, domain, Rights::READ)).then(|| path.to_string())
    }
}
