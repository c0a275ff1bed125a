//! A guest's network device: its negotiation with the frontend through XenStore, its queues, its port of the bridge.
//!
//! It follows the frontend's state ([`next_of_backend`]). Nothing of the frontend's is held when it is told `Closing`. The
//! device ends when its directory is gone.

use super::nodes::{Details, OFFER, QueueDetails};
use super::platform::Platform;
use super::queue::{Groups, Queue, Turn};
use super::{Fault, Refusal};
use crate::contain::{Panicked, contain};
use crate::net::bridge::{LEARNED_BY_GUEST, PortId, Rate, Settings};
use crate::net::{Switch, Taste};
use crate::nodes::{Nodes, Unclear};
use crate::service::{Allowance, Next};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use guest_kernel::net::Mac;
use guest_kernel::store::Bus;
use guest_kernel::xenbus::{Step, XenbusState, next_of_backend};
use log::Level;

/// The token of the device's watches.
const TOKEN: &str = "vif";
/// How often to look for requests of a frontend that doesn't tell of them, in nanoseconds.
const LOOK_INTERVAL: u64 = 30_000_000;
/// What a look at the frontend's nodes costs its domain, in nanoseconds: as much as to connect.
const LOOK_COST: u64 = 1_000_000;
/// What a lie in a ring costs, for which it is closed; and a packet that is refused.
const LIE_COST: u64 = 10_000_000;
const REFUSAL_COST: u64 = 100_000;
/// What a panic costs.
const PANIC_COST: u64 = 10_000_000;

/// A device.
pub struct Vif<P: Platform, B: Bus> {
    /// The back end's directory in XenStore, and the frontend's.
    directory: String,
    frontend: String,
    domain: u16,
    port: PortId,
    state: XenbusState,
    queues: Vec<Live<P>>,
    groups: Groups,
    tells_of_requests: bool,
    chooses_groups: bool,
    /// Something in the store has changed that was not looked at.
    changed: bool,
    allowance: Allowance,
    /// For packets that are refused.
    patience: Allowance,
    is_to_panic: bool,
    platform: P,
    bus: B,
    switch: Rc<RefCell<Switch>>,
}

/// A queue with its event channels.
struct Live<P: Platform> {
    queue: Queue<P::Ring>,
    tx_port: P::Port,
    rx_port: Option<P::Port>,
}

impl<P: Platform, B: Bus> Vif<P, B> {
    /// A device whose directory a toolstack wrote. `wake` causes a turn of [`work`](Self::work); so do events of the store.
    ///
    /// # Errors
    /// What is wrong with the directory.
    pub fn new(
        directory: String,
        mut bus: B,
        platform: P,
        switch: Rc<RefCell<Switch>>,
        wake: Box<dyn Fn()>,
        now: u64,
    ) -> Result<Vif<P, B>, Refusal> {
        let mut nodes = Nodes { directory: &directory, bus: &mut bus };
        let missing = |name: &str| Refusal::Node(Unclear(name.into()));
        let frontend = nodes.text("frontend").ok_or_else(|| missing("frontend"))?;
        let domain = nodes.parsed("frontend-id")?;
        let mac: Mac = nodes.parsed("mac")?;
        let rate = nodes.text("rate").map(|text| parse_rate(&text).ok_or_else(|| missing("rate"))).transpose()?;
        let any_source = nodes.flag("any-source")?;
        let settings = Settings {
            mac: (!any_source).then_some(mac),
            rate,
            learned: if any_source { LEARNED_BY_GUEST } else { 0 },
        };
        let port = switch.borrow_mut().add(settings, wake, now).ok_or(Refusal::MacInUse(mac))?;
        let mut vif = Vif {
            directory,
            frontend,
            domain,
            port,
            state: XenbusState::Initialising,
            queues: Vec::new(),
            groups: Groups::default(),
            tells_of_requests: true,
            chooses_groups: false,
            changed: false,
            allowance: Allowance::default(),
            patience: Allowance::default(),
            is_to_panic: false,
            platform,
            bus,
            switch,
        };
        // The port is removed when this is dropped, which happens if these fail.
        for path in [&vif.directory, &vif.frontend] {
            vif.bus.watch(path, TOKEN).map_err(Refusal::Store)?;
        }
        vif.offer();
        Ok(vif)
    }

    /// Where it is.
    pub const fn state(&self) -> XenbusState {
        self.state
    }

    /// Its port of the bridge.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// One turn, at system time `now` in nanoseconds. If it panics the device is cut off ([`contain`](crate::contain)).
    pub fn work(&mut self, now: u64) -> Next {
        contain(|| self.work_on(now)).unwrap_or_else(|panicked| self.cut_off(&panicked, now))
    }

    /// Has it panic in its next turn with packets, to see what becomes of its frontend.
    pub const fn doom(&mut self) {
        self.is_to_panic = true;
    }

    /// Serves the frontend no more, after a panic in the middle of anything, and says so. Nothing of the frontend's is
    /// held longer than a turn but rings and ports.
    fn cut_off(&mut self, panicked: &Panicked, now: u64) -> Next {
        self.close();
        self.platform.report(Level::Error, format_args!("{}: closed: {panicked}", self.directory));
        self.allowance.spend(now, PANIC_COST);
        // The frontend may have changed its state, and it was not seen to the end.
        self.changed = true;
        Next::More
    }

    fn work_on(&mut self, now: u64) -> Next {
        while self.bus.event().is_some() {
            self.changed = true;
        }
        let look = if self.changed { self.allowance.ready(now) } else { Ok(()) };
        if look.is_ok() && core::mem::take(&mut self.changed) {
            self.allowance.spend(now, LOOK_COST);
            if !self.follow() {
                return Next::End;
            }
        }
        let turn = self.turn(now).unwrap_or_else(|fault| {
            self.platform.report(Level::Warn, format_args!("{}: {fault}; closed", self.directory));
            self.allowance.spend(now, LIE_COST);
            self.close();
            Turn::default()
        });
        match look.err().into_iter().chain(turn.later).min() {
            _ if turn.more => Next::More,
            Some(later) => Next::WaitUntil(later),
            None => Next::Wait,
        }
    }

    /// Takes packets both ways, in all queues.
    fn turn(&mut self, now: u64) -> Result<Turn, Fault> {
        if let Err(later) = self.patience.ready(now) {
            return Ok(Turn { later: Some(later), ..Turn::default() });
        }
        let switch = &mut *self.switch.borrow_mut();
        let refused = switch.counters(self.port).map_or(0, |counters| counters.refused);
        let mut all = Turn::default();
        for (lane, Live { queue, tx_port, rx_port }) in self.queues.iter_mut().enumerate() {
            let mut pages = self.platform.pages(self.domain);
            let sent = queue.transmit(switch, self.port, &mut self.groups, &mut pages, now)?;
            let received = queue.receive(switch, self.port, lane, &mut pages)?;
            drop(pages);
            match rx_port {
                Some(rx_port) => {
                    if sent.notify_tx {
                        self.platform.notify(tx_port);
                    }
                    if received.notify_rx {
                        self.platform.notify(rx_port);
                    }
                }
                None if sent.notify_tx || received.notify_rx => self.platform.notify(tx_port),
                None => {}
            }
            all.more |= sent.more || received.more;
            let look = (!self.tells_of_requests && switch.has_packets(self.port, lane)).then(|| now + LOOK_INTERVAL);
            all.later = all.later.into_iter().chain(sent.later).chain(look).min();
        }
        assert!(self.queues.is_empty() || !core::mem::take(&mut self.is_to_panic), "asked for at the prompt");
        let refused = switch.counters(self.port).map_or(0, |counters| counters.refused) - refused;
        self.patience.spend(now, refused * REFUSAL_COST);
        if core::mem::take(&mut self.groups.changed) && self.chooses_groups {
            switch.set_groups(self.port, Some(self.groups.members.clone()));
        }
        Ok(all)
    }

    /// Takes a step after the frontend's state. Whether the device is there still.
    fn follow(&mut self) -> bool {
        let mut own = Nodes { directory: &self.directory, bus: &mut self.bus };
        if own.text("frontend").is_none() {
            self.disconnect();
            return false;
        }
        let frontend = Nodes { directory: &self.frontend, bus: &mut self.bus }.state();
        loop {
            match next_of_backend(self.state, frontend) {
                Step::Offer => self.offer(),
                Step::Connect => self.connect(),
                Step::Close => self.close(),
                Step::Finish => self.set_state(XenbusState::Closed),
                Step::Wait => break,
            }
        }
        if self.state == XenbusState::Connected {
            self.choose_groups();
        }
        true
    }

    /// Says what a frontend may ask for, then that it is waited for.
    fn offer(&mut self) {
        self.publish(&OFFER);
        self.set_state(XenbusState::InitWait);
    }

    fn connect(&mut self) {
        match self.try_connect() {
            Ok(()) => self.set_state(XenbusState::Connected),
            Err(refusal) => {
                self.platform.report(Level::Warn, format_args!("{}: {refusal}; closed", self.directory));
                self.close();
            }
        }
    }

    fn try_connect(&mut self) -> Result<(), Refusal> {
        let mut nodes = Nodes { directory: &self.frontend, bus: &mut self.bus };
        let Details { queues, abilities, tells_of_requests, chooses_groups } = Details::read(&mut nodes)?;
        let queues: Result<Vec<_>, _> = queues.into_iter().map(|queue| self.open(queue)).collect();
        self.queues = queues?;
        self.groups = Groups::default();
        self.tells_of_requests = tells_of_requests;
        self.chooses_groups = chooses_groups;
        let groups = chooses_groups.then(|| self.groups.members.clone());
        self.switch.borrow_mut().open(self.port, Taste { abilities, lanes: self.queues.len(), groups });
        Ok(())
    }

    fn open(&mut self, details: QueueDetails) -> Result<Live<P>, Refusal> {
        let mut ring = |gref| self.platform.ring(self.domain, gref).ok_or(Refusal::Grant(gref));
        let queue = Queue::attach(ring(details.tx_ring)?, ring(details.rx_ring)?).map_err(Refusal::Ring)?;
        let mut port = |remote| self.platform.port(self.domain, remote).ok_or(Refusal::Port(remote));
        Ok(Live { queue, tx_port: port(details.tx_port)?, rx_port: details.rx_port.map(port).transpose()? })
    }

    /// The frontend may change its mind about groups at any time.
    fn choose_groups(&mut self) {
        let mut nodes = Nodes { directory: &self.frontend, bus: &mut self.bus };
        let chooses = nodes.flag("request-multicast-control").unwrap_or(false);
        if core::mem::replace(&mut self.chooses_groups, chooses) != chooses {
            let groups = chooses.then(|| self.groups.members.clone());
            self.switch.borrow_mut().set_groups(self.port, groups);
        }
    }

    fn close(&mut self) {
        self.disconnect();
        self.set_state(XenbusState::Closing);
    }

    /// Gives rings and event channels back.
    fn disconnect(&mut self) {
        self.switch.borrow_mut().close(self.port);
        self.queues.clear();
    }

    fn set_state(&mut self, state: XenbusState) {
        if self.state != state {
            self.state = state;
            self.publish(&[("state", &format!("{}", state.number()))]);
        }
    }

    fn publish(&mut self, nodes: &[(&str, &str)]) {
        Nodes { directory: &self.directory, bus: &mut self.bus }.publish(nodes);
    }
}

impl<P: Platform, B: Bus> Drop for Vif<P, B> {
    fn drop(&mut self) {
        self.switch.borrow_mut().remove(self.port);
    }
}

/// Bytes, and the microseconds in which they may be sent: `BYTES,MICROSECONDS`, as Xen's toolstack writes it.
fn parse_rate(text: &str) -> Option<Rate> {
    let (bytes, microseconds) = text.split_once(',')?;
    let (bytes, microseconds): (u64, u64) = (bytes.parse().ok()?, microseconds.parse().ok()?);
    let per_second = u128::from(bytes) * 1_000_000;
    Some(Rate::new(u64::try_from(per_second.checked_div(microseconds.into())?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_xen_writes_them() {
        assert_eq!(parse_rate("50000,50000"), Some(Rate::new(1_000_000)));
        assert_eq!(parse_rate("4294967295,1").map(|rate| rate.bytes_per_second), Some(4_294_967_295_000_000));
        for wrong in ["", "5", "5,0", "x,1", "1,", "18446744073709551615,1"] {
            assert_eq!(parse_rate(wrong), None, "{wrong}");
        }
    }
}
