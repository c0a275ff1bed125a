//! The other side writes what it likes, between any two reads.

use super::*;
use crate::ring::Error;
use core::cell::{Cell, RefCell};
use proptest::prelude::*;
use std::rc::Rc;

/// Memory whose every word is another one at each read.
#[derive(Clone, Debug)]
struct Lies {
    /// What indices are read as, in turn.
    indices: Rc<RefCell<Vec<u32>>>,
    count: Rc<Cell<usize>>,
}

impl SharedMemory for Lies {
    fn words(&self) -> usize {
        16 + SLOTS as usize * 7
    }

    fn load(&self, word: usize, _: Ordering) -> u32 {
        assert!(word < self.words());
        self.count.set(self.count.get() + 1);
        self.indices.borrow_mut().pop().unwrap_or(word as u32)
    }

    fn store(&self, word: usize, _: u32, _: Ordering) {
        assert!(word < self.words());
    }

    fn barrier(&self) {}
}

/// Indices near each other, for most others end the ring at once.
fn lies() -> impl Strategy<Value = Lies> {
    proptest::collection::vec(prop_oneof![9 => 0u32..20, 1 => any::<u32>()], 0..400)
        .prop_map(|indices| Lies { indices: Rc::new(RefCell::new(indices)), count: Rc::default() })
}

proptest! {
    /// A backend never has more requests than slots, a broken ring stays broken, and nothing is read twice.
    #[test]
    fn a_frontend_that_lies(lies in lies(), steps in proptest::collection::vec(0u8..5, 0..200)) {
        let Ok(mut back) = Back::<_, Request, Response>::attach(lies.clone()) else { return Ok(()) };
        let mut broken = false;
        for step in steps {
            let before = lies.count.get();
            match step {
                0..=1 => {
                    let taken = back.take();
                    prop_assert!(!broken || taken == Err(Error::IndexJump));
                    broken |= taken.is_err();
                    let entry = if matches!(taken, Ok(Some(_))) { 7 } else { 0 };
                    prop_assert!(lies.count.get() - before <= entry + 1);
                }
                2 if back.unanswered() > 0 => back.respond(&response(1)),
                3 => broken |= back.arm().is_err(),
                _ => { let _ = back.publish(); }
            }
            prop_assert!(back.unanswered() <= SLOTS);
        }
    }

    /// A frontend never takes more responses than it made requests.
    #[test]
    fn a_backend_that_lies(lies in lies(), steps in proptest::collection::vec(0u8..5, 0..200)) {
        let mut front = Front::<_, Request, Response>::new(lies).unwrap();
        let (mut pushed, mut taken) = (0, 0);
        for step in steps {
            match step {
                0 => pushed += u32::from(front.push(&request(1)).is_some()),
                1 => { let _ = front.publish(); }
                2..=3 => taken += u32::from(matches!(front.take(), Ok(Some(_)))),
                _ => { let _ = front.arm(2); }
            }
            prop_assert!(taken <= pushed && pushed - taken <= SLOTS);
            prop_assert_eq!(front.free(), SLOTS - (pushed - taken));
        }
    }
}

/// What a ring does about a producer index.
fn after(published: u32, taken: u32, lie: u32) -> Result<Option<Request>, Error> {
    let memory = words(SLOTS);
    let (mut front, mut back) = ring(memory.clone(), 0);
    (0..published).for_each(|n| assert!(front.push(&request(n)).is_some()));
    let _ = front.publish();
    (0..taken).for_each(|n| assert_eq!(back.take(), Ok(Some(request(n)))));
    memory[Index::RequestProducer as usize].store(lie, Ordering::Relaxed);
    let said = back.arm();
    back.take().inspect_err(|_| assert!(said.is_err() && back.arm().is_err()))
}

#[test]
fn indices_may_not_jump() {
    // A full ring is right, one more is not.
    assert!(after(0, 0, SLOTS).is_ok());
    assert_eq!(after(0, 0, SLOTS + 1), Err(Error::IndexJump));
    // Slots whose request has no answer are in use.
    assert!(after(3, 3, SLOTS).is_ok());
    assert_eq!(after(3, 3, SLOTS + 1), Err(Error::IndexJump));
    // Back: behind what was taken, and behind what was shown.
    assert_eq!(after(3, 3, 2), Err(Error::IndexJump));
    assert_eq!(after(3, 1, 2), Err(Error::IndexJump));
    assert_eq!(after(3, 1, 3), Ok(Some(request(1))));
    assert_eq!(after(0, 0, u32::MAX), Err(Error::IndexJump));
}

#[test]
fn a_backend_refuses_indices_that_are_impossible_from_the_start() {
    let memory = words(SLOTS);
    let _ = ring(memory.clone(), 0);
    memory[Index::RequestProducer as usize].store(100, Ordering::Relaxed);
    assert_eq!(Back::<_, Request, Response>::attach(memory).map(|_| ()), Err(Error::IndexJump));
}

#[test]
fn an_entry_that_was_taken_does_not_change_any_more() {
    let memory = words(SLOTS);
    let (mut front, mut back) = ring(memory.clone(), 0);
    assert!(front.push(&request(1)).is_some());
    assert!(front.publish());
    let taken = back.take();
    memory.iter().skip(16).for_each(|word| word.store(9, Ordering::Relaxed));
    assert_eq!(taken, Ok(Some(request(1))));
}
