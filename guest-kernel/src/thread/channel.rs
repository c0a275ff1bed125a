//! Values from threads to threads, in order.

use super::block::{Condition, Mutex};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Channel<T> {
    values: Mutex<VecDeque<T>>,
    capacity: usize,
    not_empty: Condition,
    not_full: Condition,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// A channel that holds `capacity` values.
///
/// # Panics
/// If that is none.
pub fn channel<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel that holds nothing");
    let channel = Arc::new(Channel {
        values: Mutex::new(VecDeque::with_capacity(capacity)),
        capacity,
        not_empty: Condition::new(),
        not_full: Condition::new(),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    (Sender(channel.clone()), Receiver(channel))
}

/// The end that values go into. All that are dropped close the channel, when it is empty.
pub struct Sender<T>(Arc<Channel<T>>);

/// The end that they come from.
pub struct Receiver<T>(Arc<Channel<T>>);

impl<T> Sender<T> {
    /// Sends a value, waiting for room. Without a receiver it comes back.
    ///
    /// # Errors
    /// The value.
    pub fn send(&self, value: T) -> Result<(), T> {
        let channel = &*self.0;
        let mut values = channel.values.lock();
        loop {
            if channel.receivers.load(Ordering::SeqCst) == 0 {
                return Err(value);
            }
            if values.len() < channel.capacity {
                values.push_back(value);
                drop(values);
                channel.not_empty.notify_one();
                return Ok(());
            }
            values = channel.not_full.wait(values);
        }
    }
}

impl<T> Receiver<T> {
    /// The next value, waiting for it; `None` when none will come any more.
    pub fn receive(&self) -> Option<T> {
        let channel = &*self.0;
        let mut values = channel.values.lock();
        loop {
            if let Some(value) = values.pop_front() {
                drop(values);
                channel.not_full.notify_one();
                return Some(value);
            }
            if channel.senders.load(Ordering::SeqCst) == 0 {
                return None;
            }
            values = channel.not_empty.wait(values);
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::SeqCst);
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.receivers.fetch_add(1, Ordering::SeqCst);
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::SeqCst) == 1 {
            // A receiver that has looked for senders waits by the time that we have the lock.
            drop(self.0.values.lock());
            self.0.not_empty.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.0.receivers.fetch_sub(1, Ordering::SeqCst) == 1 {
            drop(self.0.values.lock());
            self.0.not_full.notify_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
