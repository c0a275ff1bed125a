//! The frame table against a model that keeps every frame's state by name.

use super::*;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const FRAMES: u64 = 24;
const LISTS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    NotOurs,
    Free,
    Counted(u32),
    Listed(usize),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Add(u64),
    Allocate,
    Share(u64),
    Release(u64),
    ReleaseTo(usize, u64),
    AllocateTo(usize),
    Pop(usize),
    Append(usize, usize),
    FreeList(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let (pfn, list) = (0..FRAMES, 0..LISTS);
    prop_oneof![
        pfn.clone().prop_map(Action::Add),
        Just(Action::Allocate),
        pfn.clone().prop_map(Action::Share),
        pfn.clone().prop_map(Action::Release),
        (list.clone(), pfn).prop_map(|(list, pfn)| Action::ReleaseTo(list, pfn)),
        list.clone().prop_map(Action::AllocateTo),
        list.clone().prop_map(Action::Pop),
        (list.clone(), list.clone()).prop_map(|(to, from)| Action::Append(to, from)),
        list.prop_map(Action::FreeList),
    ]
}

/// The table under test, its lists, and what the model knows of each frame.
struct World<'a> {
    table: FrameTable<'a>,
    lists: [FrameList; LISTS],
    model: Vec<State>,
}

impl World<'_> {
    fn of(&self, state: State) -> u32 {
        u32::try_from(self.model.iter().filter(|known| **known == state).count()).unwrap()
    }

    fn is(&mut self, pfn: Pfn, state: State) {
        self.model[usize::try_from(pfn.0).unwrap()] = state;
    }

    fn was(&self, pfn: Pfn) -> State {
        self.model[usize::try_from(pfn.0).unwrap()]
    }

    /// Does what the model allows; the table panics at the rest, which is not tried here.
    fn act(&mut self, action: Action) {
        match action {
            Action::Add(pfn) if self.was(Pfn(pfn)) == State::NotOurs => {
                self.table.add(Pfn(pfn));
                self.is(Pfn(pfn), State::Free);
            }
            Action::Allocate => match self.table.allocate() {
                Some(pfn) => {
                    assert_eq!(self.was(pfn), State::Free);
                    self.is(pfn, State::Counted(1));
                }
                None => assert_eq!(self.of(State::Free), 0),
            },
            Action::Share(pfn) => {
                if let State::Counted(count) = self.was(Pfn(pfn)) {
                    self.table.share(Pfn(pfn));
                    self.is(Pfn(pfn), State::Counted(count + 1));
                }
            }
            Action::Release(pfn) => {
                if let State::Counted(count) = self.was(Pfn(pfn)) {
                    self.table.release(Pfn(pfn));
                    self.is(Pfn(pfn), if count == 1 { State::Free } else { State::Counted(count - 1) });
                }
            }
            Action::ReleaseTo(list, pfn) => {
                if let State::Counted(count) = self.was(Pfn(pfn)) {
                    self.table.release_to(&mut self.lists[list], Pfn(pfn));
                    self.is(Pfn(pfn), if count == 1 { State::Listed(list) } else { State::Counted(count - 1) });
                }
            }
            Action::AllocateTo(list) => match self.table.allocate_to(&mut self.lists[list]) {
                Some(pfn) => {
                    assert_eq!(self.was(pfn), State::Free);
                    self.is(pfn, State::Listed(list));
                }
                None => assert_eq!(self.of(State::Free), 0),
            },
            Action::Pop(list) => match self.table.pop(&mut self.lists[list]) {
                Some(pfn) => {
                    assert_eq!(self.was(pfn), State::Listed(list));
                    self.is(pfn, State::Counted(1));
                }
                None => assert_eq!(self.of(State::Listed(list)), 0),
            },
            Action::Append(to, from) if to != from => {
                let from_list = core::mem::take(&mut self.lists[from]);
                self.table.append(&mut self.lists[to], from_list);
                for state in &mut self.model {
                    if *state == State::Listed(from) {
                        *state = State::Listed(to);
                    }
                }
            }
            Action::FreeList(list) => {
                self.table.free_list(core::mem::take(&mut self.lists[list]));
                for state in &mut self.model {
                    if *state == State::Listed(list) {
                        *state = State::Free;
                    }
                }
            }
            Action::Add(_) | Action::Append(..) => {}
        }
    }

    fn check(&self) {
        assert_eq!(self.table.free(), self.of(State::Free));
        for (pfn, state) in (0..).zip(&self.model) {
            let references = if let State::Counted(count) = state { *count } else { 0 };
            assert_eq!(self.table.references(Pfn(pfn)), references);
        }
        for (list, frames) in self.lists.iter().enumerate() {
            let members: Vec<_> =
                core::iter::successors(self.table.first(frames), |pfn| self.table.next(*pfn)).collect();
            assert_eq!(members.len(), frames.count() as usize);
            assert_eq!(frames.count(), self.of(State::Listed(list)));
            assert!(members.iter().all(|pfn| self.was(*pfn) == State::Listed(list)));
        }
    }
}

proptest! {
    #[test]
    fn every_frame_is_in_one_state(actions in prop::collection::vec(action(), 0..200)) {
        let mut words = vec![7; usize::try_from(FRAMES).unwrap()];
        let mut world = World {
            table: FrameTable::new(&mut words),
            lists: core::array::from_fn(|_| FrameList::new()),
            model: vec![State::NotOurs; usize::try_from(FRAMES).unwrap()],
        };
        for action in actions {
            world.act(action);
            world.check();
        }
    }
}

#[test]
fn a_larger_table_knows_what_the_smaller_one_did() {
    let (mut small, mut large) = ([7; 4], [7; 6]);
    let mut table = FrameTable::new(&mut small);
    (0..3).for_each(|pfn| table.add(Pfn(pfn)));
    let mut list = FrameList::new();
    let listed = table.allocate_to(&mut list).unwrap();
    let counted = table.allocate().unwrap();
    table.share(counted);

    let mut table = table.moved_to(&mut large);
    assert_eq!((table.size(), table.free(), table.references(counted)), (6, 1, 2));
    assert_eq!(table.pop(&mut list), Some(listed));
    table.add(Pfn(3));
    table.add(Pfn(5));
    assert_eq!(table.free(), 3);
    assert_eq!(table.references(Pfn(6)), 0);
}

#[test]
#[should_panic(expected = "has no references")]
fn a_free_frame_cannot_be_freed() {
    let mut words = [0; 2];
    let mut table = FrameTable::new(&mut words);
    table.add(Pfn(1));
    table.release(Pfn(1));
}

#[test]
#[should_panic(expected = "in the table already")]
fn a_frame_is_added_once() {
    let mut words = [0; 2];
    let mut table = FrameTable::new(&mut words);
    table.add(Pfn(1));
    table.allocate();
    table.add(Pfn(1));
}
