//! Who runs next, who waits for whom. Pure; what a task is made of is the caller's.

use alloc::collections::{BTreeMap, VecDeque};

/// A task's number. Numbers are not used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pid(pub u32);

/// A child that ended, as its parent is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The child.
    pub pid: Pid,
    /// What it ended with.
    pub status: u64,
}

/// The answer to a task that waits for a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// This one has ended.
    For(Ended),
    /// All of them still live: the task sleeps until [`Roster::end`] wakes it.
    Sleep,
    /// There is none.
    NoChild,
}

#[derive(PartialEq, Eq, Debug)]
enum State<T> {
    /// In the queue, or running.
    Runs(T),
    /// Waits for a child.
    Sleeps(T),
    /// Its parent hasn't been told yet.
    Ended(u64),
}

#[derive(Debug)]
struct Entry<T> {
    parent: Option<Pid>,
    state: State<T>,
}

/// All tasks. One that [`take_next`](Roster::take_next) named runs until it is made [`ready`](Roster::ready) again, sleeps or ends.
#[derive(Debug)]
pub struct Roster<T> {
    tasks: BTreeMap<Pid, Entry<T>>,
    queue: VecDeque<Pid>,
    last: u32,
}

impl<T> Roster<T> {
    /// Nobody.
    pub const fn new() -> Roster<T> {
        Roster { tasks: BTreeMap::new(), queue: VecDeque::new(), last: 0 }
    }

    /// Adds a task, ready to run. Nobody will be told of the end of one without parent.
    pub fn add(&mut self, parent: Option<Pid>, task: T) -> Pid {
        self.last += 1;
        let pid = Pid(self.last);
        self.tasks.insert(pid, Entry { parent, state: State::Runs(task) });
        self.queue.push_back(pid);
        pid
    }

    /// Takes the task whose turn it is out of the queue.
    pub fn take_next(&mut self) -> Option<Pid> {
        self.queue.pop_front()
    }

    /// Puts a task that ran to the end of the queue.
    pub fn ready(&mut self, pid: Pid) {
        self.queue.push_back(pid);
    }

    /// A task that hasn't ended.
    ///
    /// # Panics
    /// If there is none with that number.
    pub fn task(&mut self, pid: Pid) -> &mut T {
        match self.tasks.get_mut(&pid).map(|entry| &mut entry.state) {
            Some(State::Runs(task) | State::Sleeps(task)) => task,
            _ => panic!("there is no {pid:?}"),
        }
    }

    /// How many tasks haven't ended.
    pub fn living(&self) -> usize {
        self.tasks.values().filter(|entry| !matches!(entry.state, State::Ended(_))).count()
    }

    /// Waits for a child of the running task `pid`.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn wait(&mut self, pid: Pid) -> Wait {
        let mut children = self.tasks.iter().filter(|(_, entry)| entry.parent == Some(pid)).peekable();
        if children.peek().is_none() {
            return Wait::NoChild;
        }
        let ended = children.find_map(|(child, entry)| match entry.state {
            State::Ended(status) => Some(Ended { pid: *child, status }),
            _ => None,
        });
        if let Some(ended) = ended {
            self.tasks.remove(&ended.pid);
            return Wait::For(ended);
        }
        let Some(Entry { parent, state: State::Runs(task) }) = self.tasks.remove(&pid) else {
            panic!("{pid:?} waits and doesn't run")
        };
        self.tasks.insert(pid, Entry { parent, state: State::Sleeps(task) });
        Wait::Sleep
    }

    /// Ends the running task `pid`. If its parent sleeps until then, that one is ready to run again and named, to be told.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn end(&mut self, pid: Pid, status: u64) -> (T, Option<Pid>) {
        let Some(Entry { parent, state: State::Runs(task) }) = self.tasks.remove(&pid) else {
            panic!("{pid:?} ends and doesn't run")
        };
        self.tasks.retain(|_, entry| entry.parent != Some(pid) || !matches!(entry.state, State::Ended(_)));
        let orphans = self.tasks.values_mut().filter(|entry| entry.parent == Some(pid));
        orphans.for_each(|orphan| orphan.parent = None);

        let Some(parent) = parent else { return (task, None) };
        match self.tasks.remove(&parent) {
            Some(Entry { parent: grandparent, state: State::Sleeps(sleeper) }) => {
                self.tasks.insert(parent, Entry { parent: grandparent, state: State::Runs(sleeper) });
                self.queue.push_back(parent);
                (task, Some(parent))
            }
            other => {
                self.tasks.extend(other.map(|other| (parent, other)));
                self.tasks.insert(pid, Entry { parent: Some(parent), state: State::Ended(status) });
                (task, None)
            }
        }
    }
}

impl<T> Default for Roster<T> {
    fn default() -> Roster<T> {
        Roster::new()
    }
}

#[cfg(test)]
mod tests;
