//! The domain's own connection, which waits for answers.

use super::bus::{Bus, Event, Tx};
use super::client::Client;
use super::ring::Interface;
use crate::{StartInfo, event, hypercall, memory, time};
use alloc::vec::Vec;
use pv_abi::errno::Errno;

/// The connection that the domain was started with. There should be one at a time.
pub struct Connection {
    page: &'static Interface,
    port: u32,
    client: Client,
}

impl Connection {
    /// The connection that the start info names: its ring and its port, which is masked. `None` if the domain has none.
    pub fn open(info: &StartInfo) -> Option<Connection> {
        if info.store_mfn == 0 || info.store_evtchn == 0 {
            return None;
        }
        let address = memory::address_of_frame(info.store_mfn)?;
        // SAFETY: the frame is the domain's own and mapped for good, the builder set it aside for this, and the structure
        // is made of atomics.
        let page = unsafe { &*(address as *const Interface) };
        event::mask(info.store_evtchn);
        Some(Connection { page, port: info.store_evtchn, client: Client::new(page) })
    }

    /// The shared page.
    pub fn page(&self) -> &'static Interface {
        self.page
    }

    /// The port on which the server tells of replies and events.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends what waits and takes what came.
    pub fn work(&mut self) {
        if self.client.work(self.page) {
            // A port that can't be sent to is a server that is gone: the reply won't come.
            let _ = hypercall::send(self.port);
        }
    }

    /// Sleeps until the server has sent an event since the last sleep, or until system time `deadline` in nanoseconds; 0
    /// means no deadline. Then works.
    pub fn sleep(&mut self, deadline: u64) {
        // The event may be there already; then this returns at once.
        let _ = hypercall::poll(&[self.port], deadline);
        event::clear_pending(self.port);
        self.work();
    }

    /// Waits for the next event until system time `deadline` in nanoseconds; 0 means no deadline.
    pub fn wait(&mut self, deadline: u64) -> Option<Event> {
        loop {
            self.work();
            let is_late = deadline != 0 && time::now().is_none_or(|now| now >= deadline);
            match self.client.event() {
                None if !is_late && !self.client.is_broken() => self.sleep(deadline),
                event => return event,
            }
        }
    }

    /// Begins afresh, without watches and transactions, if the server can.
    ///
    /// # Errors
    /// `ENOSYS` if it can't.
    pub fn reconnect(&mut self) -> Result<(), Errno> {
        if !self.client.reconnect(self.page) {
            return Err(Errno::ENOSYS);
        }
        hypercall::send(self.port)
    }
}

impl Bus for Connection {
    fn request(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        let id = self.client.submit(kind, tx, parts)?;
        self.work();
        loop {
            match self.client.reply(id) {
                Some(reply) => return reply,
                None => self.sleep(0),
            }
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.work();
        self.client.event()
    }
}
