//! The back end of a domain's console.

use super::output::screen;
use super::screen::Writer;
use crate::contain::{Panicked, contain, indivisible};
use crate::service::{Allowance, Next, Port, Service, Waker};
use alloc::collections::VecDeque;
use alloc::rc::Weak;
use alloc::string::String;
use core::cell::RefCell;
use core::fmt;
use guest_kernel::console::ring::{self, Page};
use guest_kernel::control::Ring;
use guest_kernel::control::foreign::Foreign;
use guest_kernel::{memory, time};
use log::{error, warn};
use pv_abi::errno::Errno;
use pv_abi::io::console::CONSOLE_OUT_SIZE;

/// Keys kept for a domain that doesn't read; more are dropped.
const KEYS: usize = 256;
/// Bytes shown in a turn.
const TURN: usize = 512;
/// Nanoseconds that a domain's words can take at once: 33 KB on a serial line, which takes 90 microseconds for a byte, and nobody
/// else in this domain works meanwhile.
const BURST: u64 = 3_000_000_000;
/// How much of this domain's time they can take without end, in focus: who sits there wants to read them, and can move on.
const IN_FOCUS: Allowance = Allowance::one_in(3, BURST);
/// The same behind the one in focus.
const BEHIND: Allowance = Allowance::one_in(10, BURST);
/// How long a console that has panicked rests, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;

/// Why a console can't be connected.
#[derive(Debug)]
pub enum Error {
    /// Its page can't be mapped.
    Page(memory::Error),
    /// Its port can't be connected.
    Port(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Page(error) => write!(f, "its page can't be mapped: {error}"),
            Error::Port(errno) => write!(f, "its port can't be connected: {errno:?}"),
        }
    }
}

/// A domain's console. When it is dropped the page is unmapped and the port closed.
pub struct Back {
    page: Foreign,
    ring: ring::Back,
    port: Port,
    waker: Waker,
    writer: Writer,
    keys: VecDeque<u8>,
    /// What it may say in focus, and behind another.
    in_focus: Allowance,
    behind: Allowance,
    complained: bool,
    is_to_panic: bool,
}

impl Back {
    /// Connects to the console of a new domain, which is `writer` on the screen.
    ///
    /// # Errors
    /// When its page can't be mapped or its port not connected.
    pub fn connect(domain: u16, ring: Ring, writer: Writer, waker: &Waker) -> Result<Back, Error> {
        let page = Foreign::map(domain, &[ring.frame]).map_err(Error::Page)?;
        let port = Port::connect(domain, ring.port, waker).map_err(Error::Port)?;
        screen().listen(writer);
        Ok(Back {
            page,
            ring: ring::Back::new(),
            port,
            waker: waker.clone(),
            writer,
            keys: VecDeque::new(),
            in_focus: IN_FOCUS,
            behind: BEHIND,
            complained: false,
            is_to_panic: false,
        })
    }

    /// Types a key for the domain.
    pub fn press(&mut self, key: u8) {
        if self.keys.len() < KEYS {
            self.keys.push_back(key);
            self.waker.wake();
        }
    }

    /// Shows the last that a domain said which has ended.
    pub fn drain(&mut self) {
        self.show(CONSOLE_OUT_SIZE);
    }

    /// Goes on after a panic in the middle of anything, as with a new ring, and not at once. Nobody is told: the ring has no
    /// states. What was under way is lost.
    fn cut_off(&mut self, panicked: &Panicked, now: u64) -> Next {
        // SAFETY: the page of a ring is made of atomics, and shown as long as `self` lives.
        self.ring = ring::Back::resume(unsafe { self.page.shared::<Page>() });
        self.keys.clear();
        let name = String::from(screen().name(self.writer));
        error!("{name}: its console begins anew: {panicked}");
        Next::WaitUntil(now + PAUSE)
    }

    /// Has it panic in its next turn, to see what becomes of its domain.
    pub fn doom(&mut self) {
        self.is_to_panic = true;
        self.waker.wake();
    }

    fn turn(&mut self, now: u64) -> Next {
        assert!(!core::mem::take(&mut self.is_to_panic), "asked for at the prompt");
        // First this: an event that comes from here on wakes the service again.
        self.port.rang();
        let has_focus = screen().focus() == self.writer;
        let next = match if has_focus { &self.in_focus } else { &self.behind }.ready(now) {
            Ok(()) => {
                let start = time::now();
                let taken = self.show(TURN);
                if taken > 0 {
                    self.port.notify();
                    // The time it took, and not what the domain wrote: names of writers and lines that are shown again are in it.
                    let took = time::now().zip(start).map_or(0, |(end, start)| end.saturating_sub(start));
                    if has_focus { &mut self.in_focus } else { &mut self.behind }.spend(now, took);
                }
                if taken == TURN { Next::More } else { Next::Wait }
            }
            Err(later) => Next::WaitUntil(later),
        };
        if self.hand_keys() {
            self.port.notify();
        }
        next
    }

    /// Shows up to so many bytes of what the domain wrote; how many.
    fn show(&mut self, most: usize) -> usize {
        let mut bytes = [0; CONSOLE_OUT_SIZE];
        let bytes = &mut bytes[..most.min(CONSOLE_OUT_SIZE)];
        // SAFETY: the page of a ring is made of atomics, and shown as long as `self` lives.
        let page = unsafe { self.page.shared::<Page>() };
        match self.ring.read(page, bytes) {
            Ok(0) => 0,
            Ok(count) => {
                indivisible(|| screen().write(self.writer, &bytes[..count]));
                count
            }
            Err(ring::Broken) => {
                // Once: it can do it as often as it likes.
                if !core::mem::replace(&mut self.complained, true) {
                    let name = String::from(screen().name(self.writer));
                    warn!("{name}: the indices of its console ring are wrong; text may be lost");
                }
                0
            }
        }
    }

    /// Gives the domain keys that were typed for it; whether it got some.
    fn hand_keys(&mut self) -> bool {
        // SAFETY: as above.
        let page = unsafe { self.page.shared::<Page>() };
        let mut some = false;
        loop {
            let (next, _) = self.keys.as_slices();
            match self.ring.write(page, next) {
                // No room, or none that it says the truth about: later, or never.
                Ok(0) | Err(ring::Broken) => return some,
                Ok(count) => {
                    self.keys.drain(..count);
                    some = true;
                }
            }
        }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        screen().leave(self.writer);
        // Its turns end with the next one, which nobody else gives it: otherwise each domain that ends keeps a service for good.
        self.waker.wake();
    }
}

/// Gives a console its turns as long as there is one.
pub struct Turns(pub Weak<RefCell<Back>>);

impl Service for Turns {
    fn work(&mut self, now: u64) -> Next {
        let Some(back) = self.0.upgrade() else { return Next::End };
        let mut back = back.borrow_mut();
        contain(|| back.turn(now)).unwrap_or_else(|panicked| back.cut_off(&panicked, now))
    }
}
