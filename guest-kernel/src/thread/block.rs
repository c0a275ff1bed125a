//! A lock and a condition whose waiters let other threads run.

use super::{Thread, current, park};
use crate::sync;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// Who has a lock, and who waits for it, in order.
struct Queue {
    owner: Option<Arc<Thread>>,
    waiters: VecDeque<Arc<Thread>>,
}

/// A lock that threads may hold while they wait and yield. It goes to those who wait in their order.
pub struct Mutex<T> {
    queue: sync::Mutex<Queue>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is used by the owner only, and goes from thread to thread.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Free, with its value.
    pub const fn new(value: T) -> Mutex<T> {
        let queue = sync::Mutex::new(Queue { owner: None, waiters: VecDeque::new() });
        Mutex { queue, value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it if need be.
    ///
    /// # Panics
    /// If this is no thread, or has it already.
    pub fn lock(&self) -> Guard<'_, T> {
        let me = current();
        {
            let mut queue = self.queue.lock();
            match &queue.owner {
                None => {
                    queue.owner = Some(me);
                    return Guard(self, PhantomData);
                }
                Some(owner) => assert!(!Arc::ptr_eq(owner, &me), "{me:?} waits for itself"),
            }
            queue.waiters.push_back(me.clone());
        }
        loop {
            park();
            if self.queue.lock().owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, &me)) {
                return Guard(self, PhantomData);
            }
        }
    }

    /// The value, when nobody can have the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.queue.lock();
        write!(f, "lock of {:?}, {} wait", queue.owner, queue.waiters.len())
    }
}

/// A lock that is held until this is dropped.
///
/// Not to be sent, nor to be shared unless the value is: by itself a reference to a lock is, if the value can be sent.
#[must_use]
pub struct Guard<'a, T>(&'a Mutex<T>, PhantomData<*const ()>);

// SAFETY: who shares a guard gets no more of it than `&T`.
unsafe impl<T: Sync> Sync for Guard<'_, T> {}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.queue.lock();
            let next = queue.waiters.pop_front();
            queue.owner.clone_from(&next);
            next
        };
        if let Some(next) = next {
            next.unpark();
        }
    }
}

/// Something that threads wait for which have looked, under a [`Mutex`], that it isn't so yet.
#[derive(Debug, Default)]
pub struct Condition {
    waiters: sync::Mutex<VecDeque<Arc<Thread>>>,
}

impl Condition {
    /// Nobody waits.
    pub const fn new() -> Condition {
        Condition { waiters: sync::Mutex::new(VecDeque::new()) }
    }

    /// Frees the lock and waits until notified; then takes the lock again.
    pub fn wait<'a, T>(&self, guard: Guard<'a, T>) -> Guard<'a, T> {
        let (mutex, me) = (guard.0, current());
        self.waiters.lock().push_back(me.clone());
        drop(guard);
        // Whoever notified us has taken us off the list. To leave it for another reason would lose a notification.
        while self.waiters.lock().iter().any(|waiter| Arc::ptr_eq(waiter, &me)) {
            park();
        }
        mutex.lock()
    }

    /// Ends the wait of the one that waits longest.
    pub fn notify_one(&self) {
        let first = self.waiters.lock().pop_front();
        if let Some(first) = first {
            first.unpark();
        }
    }

    /// Ends the wait of all.
    pub fn notify_all(&self) {
        let all = core::mem::take(&mut *self.waiters.lock());
        all.iter().for_each(|waiter| waiter.unpark());
    }
}
