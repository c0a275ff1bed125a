//! The lock of a kernel whose vCPUs may not be running: a waiter spins a while, then lets the hypervisor run others,
//! among them perhaps the holder. And a slot for what may not wait.

use crate::hypercall;
use core::marker::PhantomData;
use core::mem::transmute_copy;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use spin::RelaxStrategy;

/// Pauses between two looks at the hypervisor's other work.
const PAUSES: u32 = 256;

/// A spin lock whose waiters yield.
///
/// Upcall handlers take no locks: the code they interrupt may hold them.
pub type Mutex<T> = spin::mutex::Mutex<T, Yielding>;
/// Its guard.
pub type MutexGuard<'a, T> = spin::mutex::MutexGuard<'a, T, Yielding>;
/// Something made by the first that asks; others wait in the same way.
pub type Once<T> = spin::once::Once<T, Yielding>;

/// How waiters wait.
#[derive(Debug)]
pub struct Yielding;

impl RelaxStrategy for Yielding {
    fn relax() {
        (0..PAUSES).for_each(|_| core::hint::spin_loop());
        let _ = hypercall::yield_now();
    }
}

/// A function pointer of type `F`, or none. Entries read it at any time, where a lock could be held by what they
/// interrupt.
#[derive(Debug)]
pub(crate) struct Slot<F>(AtomicPtr<()>, PhantomData<F>);

impl<F: Copy> Slot<F> {
    /// `Option<F>` is a pointer, null for `None`, as it is for functions.
    const IS_POINTER: () = assert!(size_of::<F>() == size_of::<usize>() && size_of::<Option<F>>() == size_of::<F>());

    pub(crate) const fn empty() -> Slot<F> {
        let () = Slot::<F>::IS_POINTER;
        Slot(AtomicPtr::new(null_mut()), PhantomData)
    }

    pub(crate) fn set(&self, function: Option<F>) {
        // SAFETY: `IS_POINTER` proves that `Option<F>` has a pointer's size; `None` is null. The bits are only ever read back
        // as the same type.
        self.0.store(unsafe { transmute_copy(&function) }, Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<F> {
        // SAFETY: the slot holds null, which is `None`, or the bits of an `Option<F>` that `set` was given.
        unsafe { transmute_copy(&self.0.load(Ordering::Acquire)) }
    }
}
