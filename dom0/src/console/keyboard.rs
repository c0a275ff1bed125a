//! Keys, and whom they are for.

use super::begun::Begun;
use super::output::screen;
use crate::domains::Domains;
use crate::prompt::Prompt;
use crate::service::{Next, Port, Service, Waker};
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use guest_kernel::hypercall;

/// Moves the focus.
const CTRL_T: u8 = 0x14;
/// Keys read in a turn.
const TURN: usize = 32;

/// The service that reads the keyboard.
pub struct Keyboard {
    port: Port,
    prompt: Prompt,
    begun: Begun,
    domains: Rc<RefCell<Domains>>,
}

impl Keyboard {
    /// Takes the keyboard, by the port of [`init`](super::init).
    pub fn new(port: u32, domains: Rc<RefCell<Domains>>, waker: &Waker) -> Keyboard {
        Keyboard {
            port: Port::attach(port, waker),
            prompt: Prompt::new(domains.clone()),
            begun: Begun::default(),
            domains,
        }
    }

    fn press(&mut self, key: u8) {
        let focus = screen().focus();
        if key == CTRL_T {
            self.begun.leave();
            let mut screen = screen();
            screen.focus_next();
            let name = String::from(screen.name(screen.focus()));
            screen.say("dom0", format_args!("keys now go to {name}; Ctrl-T moves on"));
        } else if self.begun.strays(focus, key) {
            if key < b' ' {
                screen().say("dom0", format_args!("a line is left out: it was begun for another console"));
            }
        } else if focus == screen().first() {
            self.prompt.press(key);
        } else {
            self.domains.borrow().press(focus, key);
        }
    }
}

impl Service for Keyboard {
    fn work(&mut self, _now: u64) -> Next {
        self.port.rang();
        let mut keys = [0; TURN];
        let count = hypercall::console_read(&mut keys).ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        keys[..count].iter().for_each(|key| self.press(*key));
        if count == TURN { Next::More } else { Next::Wait }
    }
}
