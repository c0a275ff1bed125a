//! A guest's network device: its negotiation with the frontend through XenStore, its queues, its port of the bridge.
//!
//! The state here follows the frontend's:
//!
//! | here | frontend | then |
//! |---|---|---|
//! | `InitWait` | `Connected` | maps the rings, `Connected` |
//! | `Connected` | gone back or away, or a lie in a ring | gives everything back, `Closing` |
//! | `Closing` | `Closed`, or no node | `Closed` |
//! | `Closing`, `Closed` | starts anew | `InitWait` |
//!
//! A frontend that does things out of order gets a closed device, and may start again. The device ends when its directory
//! is gone.

use super::nodes::{Details, Nodes, OFFER, QueueDetails};
use super::platform::Platform;
use super::queue::{Groups, Queue, Turn};
use super::{Fault, Refusal};
use crate::net::bridge::{LEARNED_BY_GUEST, PortId, Rate, Settings};
use crate::net::{Switch, Taste};
use crate::service::{Allowance, Next};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use guest_kernel::net::Mac;
use guest_kernel::store::Bus;
use pv_abi::io::xenbus::*;

/// The token of the device's watches.
const TOKEN: &str = "vif";
/// How often to look for requests of a frontend that doesn't tell of them, in nanoseconds.
const LOOK_INTERVAL: u64 = 30_000_000;
/// What a look at the frontend's nodes costs its domain, in nanoseconds: as much as to connect.
const LOOK_COST: u64 = 1_000_000;
/// What a lie in a ring costs, for which it is closed; and a packet that is refused.
const LIE_COST: u64 = 10_000_000;
const REFUSAL_COST: u64 = 100_000;

/// Where the back end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Waits for the frontend.
    InitWait,
    /// In use.
    Connected,
    /// Waits for the frontend to notice.
    Closing,
    /// Waits for a frontend that starts anew.
    Closed,
}

impl State {
    const fn number(self) -> u32 {
        match self {
            State::InitWait => XENBUS_STATE_INIT_WAIT,
            State::Connected => XENBUS_STATE_CONNECTED,
            State::Closing => XENBUS_STATE_CLOSING,
            State::Closed => XENBUS_STATE_CLOSED,
        }
    }
}

/// A device.
pub struct Vif<P: Platform, B: Bus> {
    /// The back end's directory in XenStore, and the frontend's.
    directory: String,
    frontend: String,
    domain: u16,
    port: PortId,
    state: State,
    queues: Vec<Live<P>>,
    groups: Groups,
    tells_of_requests: bool,
    chooses_groups: bool,
    /// Something in the store has changed that was not looked at.
    changed: bool,
    allowance: Allowance,
    /// For packets that are refused.
    patience: Allowance,
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
        let missing = |name: &str| Refusal::Node(name.into());
        let frontend = nodes.text("frontend").ok_or_else(|| missing("frontend"))?;
        let domain = nodes.number("frontend-id")?.try_into().map_err(|_| missing("frontend-id"))?;
        let mac: Mac = nodes.text("mac").and_then(|text| text.parse().ok()).ok_or_else(|| missing("mac"))?;
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
            state: State::Closed,
            queues: Vec::new(),
            groups: Groups::default(),
            tells_of_requests: true,
            chooses_groups: false,
            changed: false,
            allowance: Allowance::default(),
            patience: Allowance::default(),
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
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its port of the bridge.
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// One turn, at system time `now` in nanoseconds.
    pub fn work(&mut self, now: u64) -> Next {
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
            self.platform.report(format_args!("{}: {fault}; closed", self.directory));
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
        let mut nodes = Nodes { directory: &self.frontend, bus: &mut self.bus };
        let frontend = nodes.number("state").unwrap_or(XENBUS_STATE_UNKNOWN);
        let wants_in = matches!(frontend, XENBUS_STATE_INITIALISED | XENBUS_STATE_CONNECTED);
        match self.state {
            State::InitWait if wants_in => self.connect(),
            // Not there yet, or never: a domain that ended without a word.
            State::InitWait if matches!(frontend, XENBUS_STATE_INITIALISING | XENBUS_STATE_UNKNOWN) => {}
            State::Connected if wants_in => self.choose_groups(),
            State::InitWait | State::Connected => self.close(),
            State::Closing | State::Closed => {}
        }
        match (self.state, frontend) {
            (State::Closing | State::Closed, XENBUS_STATE_INITIALISING) => self.offer(),
            (State::Closing, XENBUS_STATE_CLOSED | XENBUS_STATE_UNKNOWN) => self.set_state(State::Closed),
            _ => {}
        }
        true
    }

    /// Says what a frontend may ask for, then that it is waited for.
    fn offer(&mut self) {
        self.publish(&OFFER);
        self.set_state(State::InitWait);
    }

    fn connect(&mut self) {
        match self.try_connect() {
            Ok(()) => self.set_state(State::Connected),
            Err(refusal) => {
                self.platform.report(format_args!("{}: {refusal}; closed", self.directory));
                self.close();
            }
        }
    }

    fn try_connect(&mut self) -> Result<(), Refusal> {
        let details = Nodes { directory: &self.frontend, bus: &mut self.bus }.details()?;
        let Details { queues, abilities, tells_of_requests, chooses_groups } = details;
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
        self.set_state(State::Closing);
    }

    /// Gives rings and event channels back.
    fn disconnect(&mut self) {
        self.switch.borrow_mut().close(self.port);
        self.queues.clear();
    }

    fn set_state(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.publish(&[("state", &format!("{}", state.number()))]);
        }
    }

    /// Writes nodes, if the directory is there: what a toolstack has removed stays removed.
    fn publish(&mut self, nodes: &[(&str, &str)]) {
        let directory = &self.directory;
        let published = self.bus.transaction(|bus, tx| {
            bus.read(tx, &format!("{directory}/frontend"))?;
            nodes.iter().try_for_each(|(name, value)| bus.write(tx, &format!("{directory}/{name}"), value.as_bytes()))
        });
        // Without its nodes the frontend waits, and whoever looks into the store sees why.
        let _ = published;
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
