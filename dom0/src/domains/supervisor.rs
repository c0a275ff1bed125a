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

/// Sees to the domains.
pub struct Supervisor {
    port: Port,
    domains: Rc<RefCell<Domains>>,
    /// Those that are to be created at the start and are not yet, in the order of the machine file.
    first: VecDeque<usize>,
    /// When each is to be started again.
    restarts: Vec<Option<u64>>,
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
                *restart = domains.end(index, ending, now);
                some = true;
            }
        }
        drop(domains);
        if some {
            self.stop_if_all_stopped();
        }
    }

    fn create(&self, index: usize) {
        let mut domains = self.domains.borrow_mut();
        match domains.create(index) {
            // The keyboard is for a guest rather than for the prompt, as long as nobody says otherwise.
            Ok(()) if index == 0 => {
                let writer = domains.writer(index);
                drop(domains);
                screen().set_focus(writer);
            }
            Ok(()) => {}
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
            self.create(index);
            return Next::More;
        }
        self.port.rang();
        self.look(now);
        let due = self.restarts.iter().position(|restart| restart.is_some_and(|at| at <= now));
        if let Some(index) = due {
            self.restarts[index] = None;
            self.create(index);
            return Next::More;
        }
        self.restarts.iter().flatten().min().map_or(Next::Wait, |at| Next::WaitUntil(*at))
    }
}
