//! Panics of one part that end this part, and no other.
//!
//! A *part* is what serves one device or one connection of one domain: a virtual disk, a network device, a console, a ring to
//! XenStore. What guests write there is met by errors that are values; should one cause a panic nevertheless, it is a bug in
//! the code of this part, and the stack is unwound to [`contain`], which was called with the part's turn. Who called that has
//! the part *cut off* then: it serves its frontend no more, gives back all that it held, and says `Closing`, so that
//! the frontend may connect anew. It pays with its domain's allowance, as for a lie: who panics every time does so once a
//! second.
//!
//! # Why what is left can be trusted
//! * What belongs to the part is not used as it is: cutting it off forgets it, or makes it afresh from what is known
//!   whatever state it is in. Pages that a disk still uses are the exception. Each is in the job that said so before the
//!   panic, and stays until the disk has completed this job.
//! * What the parts share is changed in an [indivisible] way: a panic there can't be contained, and ends this domain, as one
//!   anywhere outside of a part's turn does. So parts find it as it is between two changes. Shared are XenStore's core, the
//!   switch with its bridge, the drivers, and hypercalls with the books that are kept about them. Heap and memory are looked
//!   at instead, for they are used everywhere: nothing is contained while one of them is being changed.
//! * A `RefCell` that the part had borrowed is free again when the stack is unwound.
//! * A second panic, while the stack is unwound or a part is cut off, ends the domain. So does one in an event handler,
//!   which may have interrupted anything: upcalls are masked there.
//!
//! A turn without a panic is not slower for this, but for a few instructions.

use alloc::string::String;
use core::fmt;

/// A part's panic: where it was, what it said, and who called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Panicked(pub String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}", self.0)
    }
}

#[cfg(not(target_os = "none"))]
pub use hosted::{contain, indivisible};
#[cfg(target_os = "none")]
pub use live::{contain, indivisible, init};

#[cfg(target_os = "none")]
mod live {
    use super::Panicked;
    use alloc::boxed::Box;
    use alloc::format;
    use alloc::string::String;
    use core::fmt::Write;
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use guest_kernel::{event, memory, panic};

    /// A part has its turn and changes nothing that is shared. There is one vCPU.
    static OPEN: AtomicBool = AtomicBool::new(false);

    /// From now on panics can be contained.
    pub fn init() {
        panic::set_escape(escape);
    }

    /// Gives a part its turn.
    ///
    /// # Errors
    /// It has panicked, and is to be cut off.
    pub fn contain<R>(turn: impl FnOnce() -> R) -> Result<R, Panicked> {
        OPEN.store(true, Relaxed);
        let result = unwinding::panic::catch_unwind(turn);
        OPEN.store(false, Relaxed);
        result.map_err(|payload| {
            // `escape` masked them.
            event::enable();
            Panicked(payload.downcast::<String>().map(|text| *text).unwrap_or_default())
        })
    }

    /// Makes a change that is not left half done: a panic in here is the end of this domain.
    pub fn indivisible<R>(change: impl FnOnce() -> R) -> R {
        let open = OPEN.load(Relaxed);
        OPEN.store(false, Relaxed);
        let result = change();
        OPEN.store(open, Relaxed);
        result
    }

    /// Leaves a turn that panics. Comes back if that can't be.
    fn escape(info: &PanicInfo<'_>) {
        if !OPEN.load(Relaxed) || memory::is_busy() {
            return;
        }
        // The unwinder reads what it is to restore from below the stack pointer, where an upcall would have its frame. In a
        // handler they are masked already.
        if !event::disable() {
            return;
        }
        // Another panic from here on is not contained.
        OPEN.store(false, Relaxed);
        let place = info.location().map_or_else(String::new, |place| format!("{place}: "));
        let mut text = format!("{place}{}; called from", info.message());
        panic::backtrace(|address| _ = write!(text, " {address:#x}"));
        let _ = unwinding::panic::begin_panic(Box::new(text));
        // The way to the turn's beginning was not found.
    }
}

/// On the host, for tests: the standard library unwinds.
#[cfg(not(target_os = "none"))]
mod hosted {
    extern crate std;

    use super::Panicked;
    use alloc::string::{String, ToString};
    use core::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    std::thread_local! {
        static OPEN: Cell<bool> = const { Cell::new(false) };
    }

    /// Gives a part its turn.
    ///
    /// # Errors
    /// It has panicked, and is to be cut off.
    pub fn contain<R>(turn: impl FnOnce() -> R) -> Result<R, Panicked> {
        OPEN.set(true);
        let result = catch_unwind(AssertUnwindSafe(turn));
        OPEN.set(false);
        result.map_err(|payload| {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            Panicked(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
        })
    }

    /// Makes a change that is not left half done: a panic in here, if a part has its turn, is the end.
    pub fn indivisible<R>(change: impl FnOnce() -> R) -> R {
        /// Sets back what was, unless the stack is unwound.
        struct Fuse(bool);

        impl Drop for Fuse {
            fn drop(&mut self) {
                if self.0 && std::thread::panicking() {
                    std::process::abort();
                }
                OPEN.set(self.0);
            }
        }

        let _fuse = Fuse(OPEN.replace(false));
        change()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::RefCell;

    #[test]
    fn a_panic_ends_the_turn_and_what_was_borrowed_is_free() {
        let shared = RefCell::new(1);
        let end = contain(|| {
            let mut borrowed = shared.borrow_mut();
            *borrowed = indivisible(|| 2);
            panic!("number {}", 3);
        });
        assert_eq!(end.map(|()| ()), Err(Panicked("number 3".into())));
        assert_eq!(*shared.borrow_mut(), 2);
        assert_eq!(contain(|| 4), Ok(4));
    }
}
