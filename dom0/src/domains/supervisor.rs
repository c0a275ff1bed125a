//! The service that creates the domains at the start, and sees to those that end.

use super::manager::Domains;
use crate::console::screen;
use crate::service::{Next, Port, Service, Waker};
use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use boot_archive::WhenAllStopped;
use core::cell::RefCell;
use guest_kernel::exit;
use log::{error, info};
use pv_abi::errno::Errno;
use pv_abi::event::VIRQ_DOM_EXC;
use pv_abi::sched::SHUTDOWN_POWEROFF;

/// A domain is to be started again.
#[derive(Clone, Copy)]
struct Restart {
    /// At this system time.
    at: u64,
    /// It had the keys.
    had_focus: bool,
}

/// Sees to the domains.
pub struct Supervisor {
    port: Port,
    domains: Rc<RefCell<Domains>>,
    /// Those that are to be created at the start and are not yet, in the order of the machine file.
    first: VecDeque<usize>,
    /// How each is to be started again.
    restarts: Vec<Option<Restart>>,
}

impl Supervisor {
    /// Creates all domains, one in each turn.
    ///
    /// # Errors
    /// The hypervisor's, if it doesn't tell when domains end.
    pub fn new(domains: Rc<RefCell<Domains>>, waker: &Waker) -> Result<Supervisor, Errno> {
        let port = Port::virtual_interrupt(VIRQ_DOM_EXC, waker)?;
        let count = domains.borrow().count();
        Ok(Supervisor { port, domains, first: (0..count).collect(), restarts: vec![None; count] })
    }

    /// Takes down those that have ended.
    fn look(&mut self, now: u64) {
        let mut domains = self.domains.borrow_mut();
        let mut some = false;
        for (index, restart) in self.restarts.iter_mut().enumerate() {
            if let Some(ending) = domains.ending(index) {
                let had_focus = screen().focus() == domains.writer(index);
                *restart = domains.end(index, ending, now).map(|at| Restart { at, had_focus });
                some = true;
            }
        }
        drop(domains);
        if some {
            self.stop_if_all_stopped();
        }
    }

    /// Creates a domain, and gives it the keys if they are for nobody else.
    fn create(&self, index: usize, takes_focus: bool) {
        let mut domains = self.domains.borrow_mut();
        match domains.create(index) {
            Ok(()) => {
                let mut screen = screen();
                if takes_focus && screen.focus() == screen.first() {
                    screen.set_focus(domains.writer(index));
                }
            }
            Err(error) => {
                let name = screen().name(domains.writer(index)).to_owned();
                error!("{name} can't be created: {error}");
                drop(domains);
                self.stop_if_all_stopped();
            }
        }
    }

    /// Does what the machine file says when no domain is there, and none is to come.
    fn stop_if_all_stopped(&self) {
        let domains = self.domains.borrow();
        if !domains.all_stopped() || !self.first.is_empty() || self.restarts.iter().any(Option::is_some) {
            return;
        }
        info!("all domains have stopped");
        if domains.when_all_stopped() != WhenAllStopped::Stay {
            exit::shutdown(SHUTDOWN_POWEROFF);
        }
    }
}

impl Service for Supervisor {
    fn work(&mut self, now: u64) -> Next {
        if let Some(index) = self.first.pop_front() {
            // The keys are for a guest rather than for the prompt, as long as nobody says otherwise.
            self.create(index, index == 0);
            return Next::More;
        }
        self.port.rang();
        self.look(now);
        let due = self.restarts.iter().position(|restart| restart.is_some_and(|restart| restart.at <= now));
        if let Some(index) = due {
            let had_focus = self.restarts[index].take().is_some_and(|restart| restart.had_focus);
            // It may have been created at the prompt meanwhile.
            if self.domains.borrow().id(index).is_none() {
                self.create(index, had_focus);
            }
            return Next::More;
        }
        self.restarts.iter().flatten().map(|restart| restart.at).min().map_or(Next::Wait, Next::WaitUntil)
    }
}
