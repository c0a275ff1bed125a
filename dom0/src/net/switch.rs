//! The bridge with packets in it: each port has an inbox, whose owner is woken when something comes.
//!
//! Inboxes are bounded, each and all together: packets that aren't taken in time are lost. A port's inbox is closed until its
//! owner is ready for packets.
//!
//! It is shared by all ports, so its changes are [indivisible](crate::contain). What a guest put into a packet is looked at
//! between them.

use super::bridge::{Bridge, Counters, PortId, Rate, Settings, Way};
use super::packet::{Abilities, MAX_FRAME, Packet};
use super::segment::Segments;
use crate::contain::indivisible;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use guest_kernel::net::{Mac, wire};

/// Packets that wait in one lane of an inbox at most.
pub const LANE_PACKETS: usize = 512;
/// Bytes that wait in one lane at most: several large packets.
pub const LANE_BYTES: usize = 512 << 10;
/// Bytes of them that a lane has room for however much waits in others, if it holds no more already: who never takes its
/// packets can't keep them from anybody else.
pub const LANE_GUARANTEED: usize = 64 << 10;

/// What the owner of an open inbox takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taste {
    /// What needn't be done for it.
    pub abilities: Abilities,
    /// Packets of one connection stay in one lane, in order.
    pub lanes: usize,
    /// The groups it wants packets for; `None`: all.
    pub groups: Option<BTreeSet<Mac>>,
}

/// The packets for a port.
struct Inbox {
    /// `None` while it is closed.
    taste: Option<Taste>,
    lanes: Vec<Lane>,
    wake: Box<dyn Fn()>,
}

#[derive(Default)]
struct Lane {
    packets: VecDeque<Packet>,
    bytes: usize,
}

/// The ports and their inboxes.
pub struct Switch {
    bridge: Bridge,
    inboxes: BTreeMap<PortId, Inbox>,
    /// Bytes in all inboxes, and how many there may be beside what lanes are guaranteed.
    waiting: usize,
    limit: usize,
}

impl Switch {
    /// No ports. All inboxes together hold up to `limit` bytes, and each lane up to [`LANE_GUARANTEED`] in any case.
    pub fn new(limit: usize) -> Switch {
        Switch { bridge: Bridge::default(), inboxes: BTreeMap::new(), waiting: 0, limit }
    }

    /// Adds a port, whose inbox is closed. `wake` is called when a packet comes. `None` if another port has its address.
    pub fn add(&mut self, settings: Settings, wake: Box<dyn Fn()>, now: u64) -> Option<PortId> {
        let id = self.bridge.add(settings, now)?;
        self.inboxes.insert(id, Inbox { taste: None, lanes: Vec::new(), wake });
        Some(id)
    }

    /// Removes a port with all that waits for it.
    pub fn remove(&mut self, id: PortId) {
        self.close(id);
        self.inboxes.remove(&id);
        self.bridge.remove(id);
    }

    /// Opens an inbox, which is empty then.
    pub fn open(&mut self, id: PortId, taste: Taste) {
        indivisible(|| {
            self.close(id);
            if let Some(inbox) = self.inboxes.get_mut(&id) {
                inbox.lanes.resize_with(taste.lanes.max(1), Lane::default);
                inbox.taste = Some(taste);
            }
        });
    }

    /// Closes an inbox: what waits there, and what comes, is lost.
    pub fn close(&mut self, id: PortId) {
        indivisible(|| {
            let Some(inbox) = self.inboxes.get_mut(&id) else { return };
            inbox.taste = None;
            for lane in inbox.lanes.drain(..) {
                self.waiting -= lane.bytes;
            }
        });
    }

    /// Changes which groups the owner of an open inbox wants packets for.
    pub fn set_groups(&mut self, id: PortId, groups: Option<BTreeSet<Mac>>) {
        indivisible(|| {
            if let Some(taste) = self.inboxes.get_mut(&id).and_then(|inbox| inbox.taste.as_mut()) {
                taste.groups = groups;
            }
        });
    }

    /// As [`Bridge::ready`].
    ///
    /// # Errors
    /// When the port may send, in nanoseconds.
    pub fn ready(&mut self, id: PortId, now: u64) -> Result<(), u64> {
        indivisible(|| self.bridge.ready(id, now))
    }

    /// As [`Bridge::charge`].
    pub fn charge(&mut self, id: PortId, bytes: usize) {
        indivisible(|| self.bridge.charge(id, bytes));
    }

    /// As [`Bridge::set_rate`].
    pub fn set_rate(&mut self, id: PortId, rate: Option<Rate>, now: u64) {
        self.bridge.set_rate(id, rate, now);
    }

    /// As [`Bridge::counters`].
    pub fn counters(&self, id: PortId) -> Option<Counters> {
        self.bridge.counters(id)
    }

    /// Something from a port was no packet.
    pub fn refuse(&mut self, id: PortId) {
        self.bridge.count_refused(id);
    }

    /// A packet to a port was lost on its last yard.
    pub fn lose(&mut self, id: PortId) {
        self.bridge.count_lost(id);
    }

    /// Takes a packet from a port and puts it where it belongs.
    pub fn send(&mut self, from: PortId, packet: Packet, now: u64) {
        if !is_sound(&packet) {
            self.refuse(from);
            return;
        }
        match indivisible(|| self.bridge.forward(from, &packet.data, now)) {
            Ok(Way::One(to)) => self.deliver(to, packet),
            Ok(Way::AllOthers) => {
                let ports: Vec<PortId> = self.bridge.others(from).collect();
                for to in ports {
                    self.deliver_copy(to, &packet);
                }
            }
            Ok(Way::Stays) | Err(_) => {}
        }
    }

    /// Takes the next packet of a lane, if `takes` wants it.
    pub fn take_if(&mut self, id: PortId, lane: usize, takes: impl FnOnce(&Packet) -> bool) -> Option<Packet> {
        let lane = self.inboxes.get_mut(&id)?.lanes.get_mut(lane)?;
        if !lane.packets.front().is_some_and(|packet| takes(packet)) {
            return None;
        }
        indivisible(|| {
            let packet = lane.packets.pop_front()?;
            lane.bytes -= packet.data.len();
            self.waiting -= packet.data.len();
            self.bridge.count_received(id, packet.data.len());
            Some(packet)
        })
    }

    /// Whether packets wait in a lane.
    pub fn has_packets(&self, id: PortId, lane: usize) -> bool {
        self.inboxes.get(&id).and_then(|inbox| inbox.lanes.get(lane)).is_some_and(|lane| !lane.packets.is_empty())
    }

    /// A copy for one of many.
    fn deliver_copy(&mut self, to: PortId, packet: &Packet) {
        let Some(taste) = self.inboxes.get(&to).and_then(|inbox| inbox.taste.as_ref()) else { return };
        let wanted = taste.groups.as_ref().is_none_or(|groups| {
            packet.destination().is_some_and(|mac| !mac.is_group() || mac == Mac::BROADCAST || groups.contains(&mac))
        });
        if wanted {
            match packet.copied() {
                Some(copy) => self.deliver(to, copy),
                None => self.bridge.count_lost(to),
            }
        }
    }

    fn deliver(&mut self, to: PortId, packet: Packet) {
        let Some(inbox) = self.inboxes.get_mut(&to) else { return };
        let (Some(taste), false) = (&inbox.taste, inbox.lanes.is_empty()) else {
            self.bridge.count_lost(to);
            return;
        };
        let index = if inbox.lanes.len() > 1 { wire::flow(&packet.data) as usize % inbox.lanes.len() } else { 0 };
        let (lane, wake) = (&mut inbox.lanes[index], &inbox.wake);
        let (waiting, limit, bridge) = (&mut self.waiting, self.limit, &mut self.bridge);
        packet.fit(taste.abilities, |packet| {
            indivisible(|| {
                let bytes = packet.data.len();
                let in_all = lane.bytes + bytes <= LANE_GUARANTEED || *waiting + bytes <= limit;
                let fits = lane.packets.len() < LANE_PACKETS && lane.bytes + bytes <= LANE_BYTES && in_all;
                if !fits {
                    bridge.count_lost(to);
                    return false;
                }
                if lane.packets.is_empty() {
                    wake();
                }
                lane.bytes += bytes;
                *waiting += bytes;
                lane.packets.push_back(packet);
                true
            })
        });
    }
}

/// Whether a packet is what it says: not too long for a frame, or one that can be cut. So no guest hands its neighbour
/// what the neighbour's kernel must not be given.
fn is_sound(packet: &Packet) -> bool {
    match packet.gso {
        Some(gso) => Segments::new(&packet.data, gso).is_some(),
        None => packet.data.len() <= MAX_FRAME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::Checksum;
    use alloc::rc::Rc;
    use core::cell::Cell;
    use std::vec;

    const OPEN: Settings = Settings { mac: None, rate: None, learned: 8 };

    fn taste() -> Taste {
        Taste { abilities: Abilities::default(), lanes: 1, groups: None }
    }

    fn mac(number: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, number])
    }

    fn packet(from: Mac, to: Mac, length: usize) -> Packet {
        let mut data = [&to.0[..], &from.0, &[9, 9]].concat();
        data.resize(length, 0);
        Packet::plain(data)
    }

    struct World {
        switch: Switch,
        ports: Vec<PortId>,
        woken: Rc<Cell<usize>>,
    }

    fn world(count: usize, limit: usize) -> World {
        let (mut switch, woken) = (Switch::new(limit), Rc::new(Cell::new(0)));
        let ports = (0..count)
            .map(|_| {
                let woken = woken.clone();
                let port = switch.add(OPEN, Box::new(move || woken.set(woken.get() + 1)), 0).unwrap();
                switch.open(port, taste());
                port
            })
            .collect();
        World { switch, ports, woken }
    }

    fn drain(switch: &mut Switch, port: PortId) -> usize {
        core::iter::from_fn(|| switch.take_if(port, 0, |_| true)).count()
    }

    #[test]
    fn a_frame_to_all_comes_to_all_others_once_and_wakes_them() {
        let World { mut switch, ports, woken } = world(3, 1 << 20);
        switch.send(ports[0], packet(mac(1), Mac::BROADCAST, 60), 0);
        assert_eq!(woken.get(), 2);
        switch.send(ports[0], packet(mac(1), Mac::BROADCAST, 60), 0);
        assert_eq!(woken.get(), 2, "who has packets waiting is awake");
        assert_eq!(ports.iter().map(|port| drain(&mut switch, *port)).collect::<Vec<_>>(), [0, 2, 2]);
        switch.send(ports[1], packet(mac(2), mac(1), 60), 0);
        assert_eq!(ports.iter().map(|port| drain(&mut switch, *port)).collect::<Vec<_>>(), [1, 0, 0]);
        assert_eq!(switch.counters(ports[0]).unwrap().received.packets, 1);
        assert_eq!(switch.waiting, 0);
    }

    #[test]
    fn who_takes_nothing_loses_it_and_nobody_else_does() {
        let World { mut switch, ports, .. } = world(3, 1 << 20);
        for _ in 0..LANE_PACKETS + 10 {
            switch.send(ports[0], packet(mac(1), Mac::BROADCAST, 60), 0);
            assert_eq!(drain(&mut switch, ports[2]), 1);
        }
        assert_eq!(switch.counters(ports[1]).unwrap().lost, 10);
        assert_eq!(switch.counters(ports[2]).unwrap().lost, 0);
        assert_eq!(drain(&mut switch, ports[1]), LANE_PACKETS);
    }

    #[test]
    fn all_inboxes_together_are_bounded_and_a_closed_one_is_empty() {
        let World { mut switch, ports, .. } = world(3, 128_000);
        for _ in 0..LANE_PACKETS {
            switch.send(ports[0], packet(mac(1), Mac::BROADCAST, 1000), 0);
        }
        // Each has what is guaranteed, which is a little more.
        assert_eq!(switch.waiting, 130_000);
        switch.close(ports[1]);
        assert_eq!(switch.waiting, 65_000);
        switch.open(ports[1], taste());
        assert_eq!(drain(&mut switch, ports[1]), 0);
        switch.remove(ports[2]);
        assert_eq!(switch.waiting, 0);
    }

    #[test]
    fn who_never_takes_its_packets_does_not_keep_them_from_others() {
        let World { mut switch, ports, .. } = world(4, 200_000);
        let [sender, idle, other, honest] = ports[..] else { unreachable!() };
        for (port, number) in [(idle, 2), (other, 3), (honest, 4)] {
            switch.send(port, packet(mac(number), Mac::BROADCAST, 60), 0);
        }
        while drain(&mut switch, honest) > 0 {}
        for _ in 0..LANE_PACKETS {
            switch.send(sender, packet(mac(1), mac(2), 1500), 0);
            switch.send(sender, packet(mac(1), mac(3), 1500), 0);
        }
        assert!(switch.waiting > 198_500, "the two have filled what there is: {}", switch.waiting);
        for round in 0..100 {
            for _ in 0..LANE_GUARANTEED / 1500 {
                switch.send(sender, packet(mac(1), mac(4), 1500), round);
            }
            assert_eq!(drain(&mut switch, honest), LANE_GUARANTEED / 1500);
        }
        assert_eq!(switch.counters(honest).unwrap().lost, 0);
    }

    #[test]
    fn groups_that_were_not_asked_for_stay_out() {
        let World { mut switch, ports, .. } = world(2, 1 << 20);
        let wanted = Mac([0x33, 0x33, 0, 0, 0, 1]);
        switch.set_groups(ports[1], Some([wanted].into()));
        for to in [wanted, Mac([0x33, 0x33, 0, 0, 0, 2]), Mac::BROADCAST, mac(7)] {
            switch.send(ports[0], packet(mac(1), to, 60), 0);
        }
        assert_eq!(drain(&mut switch, ports[1]), 3);
    }

    #[test]
    fn what_is_no_packet_goes_nowhere() {
        let World { mut switch, ports, .. } = world(2, 1 << 20);
        switch.send(ports[0], packet(mac(1), Mac::BROADCAST, MAX_FRAME + 1), 0);
        let gso = Some(super::super::Gso { network: wire::Network::Ipv4, size: 1448 });
        let lie = Packet { data: vec![2; 5000], checksum: Checksum::Blank, gso };
        switch.send(ports[0], lie, 0);
        assert_eq!(switch.counters(ports[0]).unwrap().refused, 2);
        assert_eq!(drain(&mut switch, ports[1]), 0);
    }
}
