//! All services, and whose turn it is. Pure.

use super::marks::{Marks, SERVICES, Waker};
use super::{Next, Service};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The list of services. Clones are handles of the same list.
#[derive(Clone)]
pub struct Services {
    marks: &'static Marks,
    slots: Rc<RefCell<Vec<Slot>>>,
}

/// There are as many services as there can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

enum Slot {
    Free,
    /// Its service is being made, or has its turn.
    Busy,
    Waiting {
        service: Box<dyn Service>,
        /// System time at which it wants a turn.
        deadline: Option<u64>,
    },
}

impl Services {
    /// No services, woken by `marks`.
    pub fn new(marks: &'static Marks) -> Services {
        Services { marks, slots: Rc::default() }
    }

    /// Adds a service, whose first turn comes soon. `make` makes it, and what the caller wants to have of it; with the waker,
    /// its ports and whoever else is to wake it can do so.
    ///
    /// # Errors
    /// [`Full`], and those of `make`.
    pub fn add<S: Service + 'static, T, E: From<Full>>(
        &self,
        make: impl FnOnce(&Waker) -> Result<(S, T), E>,
    ) -> Result<T, E> {
        let index = self.reserve().ok_or(Full)?;
        let waker = self.waker(index);
        let made = make(&waker);
        let (slot, made) = match made {
            Ok((service, made)) => (Slot::Waiting { service: Box::new(service), deadline: None }, Ok(made)),
            Err(error) => (Slot::Free, Err(error)),
        };
        self.slots.borrow_mut()[index] = slot;
        waker.wake();
        made
    }

    fn reserve(&self) -> Option<usize> {
        let mut slots = self.slots.borrow_mut();
        let free = slots.iter().position(|slot| matches!(slot, Slot::Free)).unwrap_or(slots.len());
        if free == slots.len() {
            if free == SERVICES {
                return None;
            }
            slots.push(Slot::Free);
        }
        slots[free] = Slot::Busy;
        Some(free)
    }

    /// Gives each service that is ready, or whose deadline has come, one turn.
    pub fn round(&self, now: u64) {
        // Services that are added meanwhile wait for the next round.
        let count = self.slots.borrow().len();
        for index in 0..count {
            let Some(mut service) = self.take_due(index, now) else { continue };
            // The list is not borrowed during the turn: a service may add others.
            let slot = match service.work(now) {
                Next::End => Slot::Free,
                Next::Wait => Slot::Waiting { service, deadline: None },
                Next::WaitUntil(deadline) => Slot::Waiting { service, deadline: Some(deadline) },
                Next::More => {
                    self.waker(index).wake();
                    Slot::Waiting { service, deadline: None }
                }
            };
            self.slots.borrow_mut()[index] = slot;
        }
    }

    /// Takes out a service that is to have a turn.
    fn take_due(&self, index: usize, now: u64) -> Option<Box<dyn Service>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(index)?;
        let Slot::Waiting { deadline, .. } = slot else { return None };
        let late = deadline.is_some_and(|deadline| deadline <= now);
        if !self.marks.take_ready(self.waker(index).service()) && !late {
            return None;
        }
        match core::mem::replace(slot, Slot::Busy) {
            Slot::Waiting { service, .. } => Some(service),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// How many services there are.
    pub fn count(&self) -> usize {
        self.slots.borrow().iter().filter(|slot| !matches!(slot, Slot::Free)).count()
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are no more than SERVICES")]
    const fn waker(&self, index: usize) -> Waker {
        Waker::new(self.marks, index as u16)
    }

    /// Whether there is something to do at once.
    pub fn any_ready(&self) -> bool {
        self.marks.any_ready()
    }

    /// The first system time at which a service wants a turn even if it isn't woken.
    pub fn next_deadline(&self) -> Option<u64> {
        let slots = self.slots.borrow();
        slots.iter().filter_map(|slot| if let Slot::Waiting { deadline, .. } = slot { *deadline } else { None }).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::PORTS;
    use super::*;
    use alloc::rc::Weak;
    use std::vec;

    /// Says what it is told to, in turn, and notes when it was called.
    struct Script {
        name: u8,
        says: Vec<Next>,
        log: Rc<RefCell<Vec<(u8, u64)>>>,
    }

    impl Service for Script {
        fn work(&mut self, now: u64) -> Next {
            self.log.borrow_mut().push((self.name, now));
            if self.says.is_empty() { Next::Wait } else { self.says.remove(0) }
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            self.log.borrow_mut().push((self.name, u64::MAX));
        }
    }

    struct World {
        services: Services,
        log: Rc<RefCell<Vec<(u8, u64)>>>,
    }

    impl World {
        fn new() -> World {
            World { services: Services::new(Box::leak(Box::default())), log: Rc::default() }
        }

        fn add(&self, name: u8, says: &[Next]) -> Waker {
            let script = Script { name, says: says.to_vec(), log: self.log.clone() };
            self.services.add(|waker| Ok::<_, Full>((script, waker.clone()))).unwrap()
        }

        fn round(&self, now: u64) -> Vec<(u8, u64)> {
            self.services.round(now);
            core::mem::take(&mut *self.log.borrow_mut())
        }
    }

    #[test]
    fn each_has_one_turn_and_one_that_has_more_gets_it_after_the_others() {
        let world = World::new();
        world.add(1, &[Next::More, Next::Wait]);
        world.add(2, &[Next::Wait]);
        assert_eq!(world.round(10), [(1, 10), (2, 10)]);
        assert!(world.services.any_ready());
        assert_eq!(world.round(11), [(1, 11)]);
        assert!(!world.services.any_ready());
        assert_eq!(world.round(12), []);
    }

    #[test]
    fn a_deadline_is_kept_and_then_gone() {
        let world = World::new();
        world.add(1, &[Next::WaitUntil(100), Next::Wait]);
        world.add(2, &[Next::WaitUntil(50), Next::WaitUntil(70)]);
        world.round(10);
        assert_eq!(world.services.next_deadline(), Some(50));
        assert_eq!(world.round(49), []);
        assert_eq!(world.round(50), [(2, 50)]);
        assert_eq!(world.services.next_deadline(), Some(70));
        assert_eq!(world.round(100), [(1, 100), (2, 100)]);
        assert_eq!(world.services.next_deadline(), None);
    }

    #[test]
    fn who_is_woken_has_a_turn_and_its_deadline_is_what_it_says_then() {
        let world = World::new();
        let waker = world.add(1, &[Next::WaitUntil(100), Next::Wait]);
        world.round(1);
        waker.wake();
        assert_eq!(world.round(2), [(1, 2)]);
        assert_eq!(world.services.next_deadline(), None);
    }

    #[test]
    fn an_event_wakes_the_owner_of_its_port() {
        let world = World::new();
        let waker = world.add(1, &[]);
        world.add(2, &[]);
        world.round(0);
        let marks = world.services.marks;
        marks.ring(7);
        assert!(!world.services.any_ready(), "nobody's port wakes nobody");
        marks.set_owner(7, Some(&waker));
        assert!(!marks.take_rung(7), "what came before is forgotten");
        marks.ring(7);
        marks.ring(7);
        marks.ring(PORTS);
        assert_eq!(world.round(1), [(1, 1)]);
        assert!(marks.take_rung(7));
        assert!(!marks.take_rung(7) && !marks.take_rung(PORTS));
        marks.set_owner(7, None);
        marks.ring(7);
        assert!(!world.services.any_ready());
    }

    #[test]
    fn one_that_ends_is_dropped_and_its_place_used_again() {
        let world = World::new();
        let old = world.add(1, &[Next::End]);
        assert_eq!(world.round(5), [(1, 5), (1, u64::MAX)]);
        let new = world.add(2, &[]);
        assert_eq!(old.service(), new.service());
        assert_eq!(world.round(6), [(2, 6)]);
        old.wake();
        assert_eq!(world.round(7), [(2, 7)], "an old waker is a needless turn, no more");
    }

    #[test]
    fn one_that_lives_as_long_as_its_owner_ends_when_the_owner_wakes_it() {
        /// As a console: it has the waker, and its service only looks whether it is still there.
        struct Part(Waker);
        impl Drop for Part {
            fn drop(&mut self) {
                self.0.wake();
            }
        }
        struct Turns(Weak<Part>);
        impl Service for Turns {
            fn work(&mut self, _now: u64) -> Next {
                self.0.upgrade().map_or(Next::End, |_| Next::Wait)
            }
        }
        let world = World::new();
        for round in 0..SERVICES as u64 + 1 {
            let part = world.services.add(|waker| {
                let part = Rc::new(Part(waker.clone()));
                Ok::<_, Full>((Turns(Rc::downgrade(&part)), part))
            });
            world.round(round);
            assert_eq!(world.services.count(), 1);
            drop(part);
            world.round(round);
            assert_eq!(world.services.count(), 0);
        }
    }

    #[test]
    fn a_service_may_add_services_in_its_turn() {
        struct Parent(Services, Rc<RefCell<Vec<(u8, u64)>>>);
        impl Service for Parent {
            fn work(&mut self, _now: u64) -> Next {
                let log = self.1.clone();
                self.0.add(|_| Ok::<_, Full>((Script { name: 9, says: vec![], log }, ()))).unwrap();
                Next::End
            }
        }
        let world = World::new();
        let parent = Parent(world.services.clone(), world.log.clone());
        world.services.add(|_| Ok::<_, Full>((parent, ()))).unwrap();
        assert_eq!(world.round(1), []);
        assert_eq!(world.round(2), [(9, 2)]);
    }

    #[test]
    fn there_is_a_limit() {
        let world = World::new();
        (0..SERVICES).for_each(|_| _ = world.add(0, &[Next::End]));
        let more = Script { name: 1, says: vec![], log: world.log.clone() };
        assert_eq!(world.services.add(|_| Ok::<_, Full>((more, ()))), Err(Full));
        world.round(0);
        let failed = world.services.add(|_| -> Result<(Script, ()), Option<Full>> { Err(None) });
        assert_eq!(failed, Err(None), "its place is free again");
        (0..SERVICES).for_each(|_| _ = world.add(0, &[]));
    }
}
