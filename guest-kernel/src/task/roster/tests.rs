//! Random lives of tasks, against what a parent and a queue promise.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

/// What a running task does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Fork,
    Yield,
    Wait,
    End(u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![Just(Deed::Fork), Just(Deed::Yield), Just(Deed::Wait), (0..9u64).prop_map(Deed::End)]
}

/// What the model knows of a task that the roster knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Runs,
    Sleeps,
    Ended(u64),
}

#[derive(Default)]
struct Model {
    /// Parent and state.
    tasks: BTreeMap<Pid, (Option<Pid>, Option<Known>)>,
    queue: VecDeque<Pid>,
}

impl Model {
    fn children(&self, pid: Pid) -> Vec<(Pid, Known)> {
        let known = self.tasks.iter().filter_map(|(child, (parent, state))| Some((*child, *parent, (*state)?)));
        known.filter(|(_, parent, _)| *parent == Some(pid)).map(|(child, _, state)| (child, state)).collect()
    }

    fn set(&mut self, pid: Pid, state: Option<Known>) {
        self.tasks.get_mut(&pid).unwrap().1 = state;
    }

    fn born(&mut self, pid: Pid, parent: Option<Pid>) {
        assert!(self.tasks.insert(pid, (parent, Some(Known::Runs))).is_none(), "a number used again");
        self.queue.push_back(pid);
    }

    fn ends(&mut self, pid: Pid, status: u64) -> Option<Pid> {
        for (child, state) in self.children(pid) {
            if matches!(state, Known::Ended(_)) {
                self.set(child, None);
            }
            self.tasks.get_mut(&child).unwrap().0 = None;
        }
        let parent = self.tasks[&pid].0;
        let sleeper = parent.filter(|parent| self.tasks[parent].1 == Some(Known::Sleeps));
        match (parent, sleeper) {
            (_, Some(sleeper)) => {
                self.set(pid, None);
                self.set(sleeper, Some(Known::Runs));
                self.queue.push_back(sleeper);
            }
            (Some(_), None) => self.set(pid, Some(Known::Ended(status))),
            (None, _) => self.set(pid, None),
        }
        sleeper
    }
}

proptest! {
    #[test]
    fn tasks_take_turns_and_parents_are_told_once(deeds in prop::collection::vec(deed(), 0..120)) {
        let (mut roster, mut model) = (Roster::new(), Model::default());
        let first = roster.add(None, 0);
        model.born(first, None);
        for deed in deeds.into_iter().chain(std::iter::repeat_n(Deed::End(3), 200)) {
            let pid = roster.take_next();
            prop_assert_eq!(pid, model.queue.pop_front());
            let Some(pid) = pid else { break };
            *roster.task(pid) += 1;
            match deed {
                Deed::Fork => {
                    model.born(roster.add(Some(pid), 0), Some(pid));
                    roster.ready(pid);
                    model.queue.push_back(pid);
                }
                Deed::Yield => {
                    roster.ready(pid);
                    model.queue.push_back(pid);
                }
                Deed::Wait => {
                    let children = model.children(pid);
                    match roster.wait(pid) {
                        Wait::NoChild => prop_assert!(children.is_empty()),
                        Wait::Sleep => {
                            prop_assert!(!children.is_empty());
                            prop_assert!(children.iter().all(|(_, state)| !matches!(state, Known::Ended(_))));
                            model.set(pid, Some(Known::Sleeps));
                            continue;
                        }
                        Wait::For(ended) => {
                            prop_assert!(children.contains(&(ended.pid, Known::Ended(ended.status))));
                            model.set(ended.pid, None);
                        }
                    }
                    roster.ready(pid);
                    model.queue.push_back(pid);
                }
                Deed::End(status) => {
                    let (turns, told) = roster.end(pid, status);
                    prop_assert!(turns > 0);
                    prop_assert_eq!(told, model.ends(pid, status));
                }
            }
            let living = model.tasks.values().filter(|(_, state)| matches!(state, Some(Known::Runs | Known::Sleeps)));
            prop_assert_eq!(roster.living(), living.count());
        }
        // All have ended by now, and nobody is left to be told.
        prop_assert_eq!(roster.living(), 0);
        prop_assert!(roster.tasks.is_empty());
    }
}
