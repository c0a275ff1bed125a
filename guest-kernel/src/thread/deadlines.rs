//! Who waits until when: a heap in fixed memory, from which anybody can be taken.

/// Deadlines of up to `N` waiters, which are numbered.
#[derive(Debug)]
pub struct Deadlines<const N: usize> {
    /// A binary heap of (deadline, waiter), the earliest first.
    heap: [(u64, u16); N],
    length: usize,
    /// Where each waiter is in the heap; [`NOWHERE`] for those that don't wait.
    places: [u16; N],
}

const NOWHERE: u16 = u16::MAX;

impl<const N: usize> Deadlines<N> {
    /// Nobody waits.
    pub const fn new() -> Deadlines<N> {
        assert!(N < NOWHERE as usize);
        Deadlines { heap: [(0, 0); N], length: 0, places: [NOWHERE; N] }
    }

    /// The earliest deadline.
    pub fn first(&self) -> Option<u64> {
        self.heap[..self.length].first().map(|(deadline, _)| *deadline)
    }

    /// Adds a waiter that doesn't wait yet.
    pub fn add(&mut self, waiter: u16, deadline: u64) {
        debug_assert!(self.places[usize::from(waiter)] == NOWHERE, "{waiter} waits already");
        self.length += 1;
        self.put(self.length - 1, (deadline, waiter));
        self.rise(self.length - 1);
    }

    /// Takes a waiter out; false if it doesn't wait.
    pub fn remove(&mut self, waiter: u16) -> bool {
        let place = usize::from(self.places[usize::from(waiter)]);
        if place >= self.length {
            return false;
        }
        self.places[usize::from(waiter)] = NOWHERE;
        self.length -= 1;
        if place < self.length {
            self.put(place, self.heap[self.length]);
            self.rise(place);
            self.sink(place);
        }
        true
    }

    /// Takes the waiter with the earliest deadline out, if that has come.
    pub fn expired(&mut self, now: u64) -> Option<u16> {
        let (deadline, waiter) = *self.heap[..self.length].first()?;
        (deadline <= now && self.remove(waiter)).then_some(waiter)
    }

    fn put(&mut self, place: usize, entry: (u64, u16)) {
        self.heap[place] = entry;
        // Places are below N, which fits.
        self.places[usize::from(entry.1)] = place as u16;
    }

    fn swap(&mut self, one: usize, other: usize) {
        let (a, b) = (self.heap[one], self.heap[other]);
        self.put(one, b);
        self.put(other, a);
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.heap[place].0 < self.heap[(place - 1) / 2].0 {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = (2 * place + 1..self.length).take(2);
            let Some(child) = children.min_by_key(|child| self.heap[*child].0) else { return };
            if self.heap[child].0 >= self.heap[place].0 {
                return;
            }
            self.swap(child, place);
            place = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, Debug)]
    enum Action {
        Add(u16, u64),
        Remove(u16),
        Pass(u64),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (0u16..24, 0u64..40).prop_map(|(waiter, after)| Action::Add(waiter, after)),
            1 => (0u16..24).prop_map(Action::Remove),
            1 => (0u64..20).prop_map(Action::Pass),
        ]
    }

    proptest! {
        #[test]
        fn as_a_sorted_list(actions in prop::collection::vec(action(), 0..300)) {
            let mut deadlines = Deadlines::<24>::new();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for action in actions {
                match action {
                    Action::Add(waiter, after) => {
                        if let std::collections::btree_map::Entry::Vacant(vacant) = model.entry(waiter) {
                            vacant.insert(now + after);
                            deadlines.add(waiter, now + after);
                        }
                    }
                    Action::Remove(waiter) => {
                        prop_assert_eq!(deadlines.remove(waiter), model.remove(&waiter).is_some());
                    }
                    Action::Pass(time) => {
                        now += time;
                        let mut last = 0;
                        while let Some(waiter) = deadlines.expired(now) {
                            let deadline = model.remove(&waiter);
                            prop_assert!(deadline.is_some_and(|deadline| last <= deadline && deadline <= now));
                            last = deadline.unwrap_or(0);
                        }
                        prop_assert!(model.values().all(|deadline| *deadline > now));
                    }
                }
                prop_assert_eq!(deadlines.first(), model.values().min().copied());
            }
        }
    }
}
