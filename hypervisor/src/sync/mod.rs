//! Locks with a rank, and per-CPU cells.
//!
//! **Interrupts stay off while hypervisor code runs**; they are taken only in guest mode and in the idle loop. So a
//! lock never needs to guard against the CPU's own interrupts, and a per-CPU cell is only ever touched by one thread
//! of control. Long work is cut by budgets and restarted (see `hypercall`), which bounds the time interrupts wait.
//!
//! **Ranks**: a CPU may take a lock only while it holds none of the same or a higher [`Rank`]. That makes lock cycles
//! impossible; a violation is our own bug and panics at the first run, not at the first unlucky interleaving.

#![expect(unsafe_code)]
// UNSAFETY: the per-CPU cell's claim to be shared between threads rests on the argument above.

use core::cell::{RefCell, RefMut};
use core::ops::{Deref, DerefMut};

use crate::arch::percpu;
use crate::mm::flush::MAX_CPUS;

/// The order in which locks are taken: lower first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Rank {
    /// The list of domains.
    Domains = 0,
    /// The state of one domain.
    Domain = 1,
    /// The vCPUs of a domain that may not run.
    Parked = 2,
    /// A CPU's run queue.
    Queue = 3,
    /// The hypervisor's heap. It takes frames when it grows, and any allocation may make it grow.
    Heap = 4,
    /// The frame allocator.
    Frames = 5,
    /// The console's input side: focus and buffers.
    Input = 6,
}

/// A spin lock that checks its rank.
pub struct SpinLock<T> {
    rank: Rank,
    inner: spin::mutex::SpinMutex<T>,
}

impl<T> SpinLock<T> {
    /// A free lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        SpinLock { rank, inner: spin::mutex::SpinMutex::new(value) }
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// When this CPU holds a lock of the same or a higher rank: our bug, never a guest's doing.
    pub fn lock(&self) -> Guard<'_, T> {
        check(self.rank);
        let inner = self.inner.lock();
        let (held, bit) = (&percpu::this().ranks_held, 1 << self.rank as u32);
        held.set(held.get() | bit);
        Guard { bit, inner }
    }
}

/// Checks that this CPU may take a lock of this rank. For code that takes it now and then, but may only be called where
/// it could.
///
/// # Panics
/// As [`SpinLock::lock`].
pub fn check(rank: Rank) {
    let held = percpu::this().ranks_held.get();
    assert!(held < 1 << rank as u32, "lock rank: taking {rank:?} while holding {held:#b}");
}

/// Gives the lock back when dropped.
pub struct Guard<'a, T> {
    bit: u32,
    inner: spin::mutex::SpinMutexGuard<'a, T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let held = &percpu::this().ranks_held;
        held.set(held.get() & !self.bit);
    }
}

/// One `T` per CPU, reached only by that CPU. For statics.
pub struct PerCpu<T> {
    slots: [RefCell<T>; MAX_CPUS],
}

// SAFETY: slot `i` is reached only through `PerCpu::borrow` on CPU `i`, and hypervisor code on one CPU is one thread
// of control (see the module's comment), so no `RefCell` is ever touched by two threads. `T: Send` because the slots
// are made by the boot CPU and then used by their own.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// As the slots are at first.
    pub const fn new(slots: [RefCell<T>; MAX_CPUS]) -> Self {
        PerCpu { slots }
    }

    /// This CPU's slot.
    ///
    /// # Panics
    /// When it is borrowed already: our bug.
    #[inline]
    pub fn borrow(&self) -> RefMut<'_, T> {
        self.slots[percpu::cpu().0 as usize].borrow_mut()
    }
}

pub use spin::Once;
