//! The bridge against a naive model: a list of all that was ever heard.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const OPEN: Settings = Settings { mac: None, rate: None, learned: 3 };

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn frame(from: Mac, to: Mac) -> Vec<u8> {
    [&to.0[..], &from.0, &[8, 0]].concat()
}

/// What the bridge should know, by searching a history.
#[derive(Default)]
struct Model {
    ports: Vec<(PortId, Option<Mac>)>,
    heard: Vec<(Mac, PortId, u64)>,
}

impl Model {
    fn owner(&self, mac: Mac) -> Option<PortId> {
        self.ports.iter().find(|(_, own)| *own == Some(mac)).map(|(id, _)| *id)
    }

    fn forward(&mut self, from: PortId, to: Mac, source: Mac, now: u64) -> Result<Way, Refusal> {
        let (_, own) = self.ports.iter().find(|(id, _)| *id == from).ok_or(Refusal::NoPort)?;
        if own.is_some_and(|own| own != source) || self.owner(source).is_some_and(|owner| owner != from) {
            return Err(Refusal::Spoofed);
        }
        self.heard.retain(|(mac, _, _)| *mac != source);
        self.heard.push((source, from, now));
        let learned = self.heard.iter().rev().find(|(mac, _, at)| *mac == to && now - at < AGEING);
        Ok(match self.owner(to).or(learned.map(|(_, port, _)| *port)) {
            _ if to.is_group() => Way::AllOthers,
            Some(port) if port == from => Way::Stays,
            Some(port) => Way::One(port),
            None => Way::Unknown,
        })
    }
}

proptest! {
    /// Ports come and go, own their address or don't, and send from any to any address: the frames go where the model says.
    #[test]
    fn as_a_list_of_all_heard(steps in proptest::collection::vec((0u8..10, any::<prop::sample::Index>(), 0u8..6, 0u8..8, 0u64..AGEING / 3), 0..200)) {
        let (mut bridge, mut model, mut now) = (Bridge::default(), Model::default(), 0);
        for (what, index, source, to, pause) in steps {
            now += pause;
            let (source, to) = (mac(source), if to == 7 { Mac::BROADCAST } else { mac(to) });
            let some_port = (!model.ports.is_empty()).then(|| model.ports[index.index(model.ports.len())].0);
            match (what, some_port) {
                (0, _) => {
                    let own = index.index(2).eq(&0).then_some(source);
                    // Here as many addresses may be learned as there are; the limit has a test of its own.
                    let added = bridge.add(Settings { mac: own, learned: 100, ..OPEN }, now);
                    prop_assert_eq!(added.is_none(), own.is_some_and(|own| model.owner(own).is_some()));
                    model.ports.extend(added.map(|id| (id, own)));
                    // What was learned of an address ends when it is given away.
                    model.heard.retain(|(mac, _, _)| added.is_none() || Some(*mac) != own);
                }
                (1, Some(port)) => {
                    bridge.remove(port);
                    model.ports.retain(|(id, _)| *id != port);
                    model.heard.retain(|(_, id, _)| *id != port);
                }
                (_, Some(port)) => {
                    let way = bridge.forward(port, &frame(source, to), now);
                    prop_assert_eq!(way, model.forward(port, to, source, now));
                    if let Ok(Way::One(to)) = way {
                        prop_assert!(to != port);
                    }
                    prop_assert!(bridge.others(port).all(|other| other != port));
                    let open = |(id, own): &(PortId, Option<Mac>)| (*id != port && own.is_none()).then_some(*id);
                    prop_assert!(bridge.open_others(port).eq(model.ports.iter().filter_map(open)));
                }
                (_, None) => {}
            }
        }
    }
}

#[test]
fn no_port_fills_the_table_of_another() {
    let mut bridge = Bridge::default();
    let (flooder, quiet) = (bridge.add(OPEN, 0).unwrap(), bridge.add(OPEN, 0).unwrap());
    for number in 0..200 {
        bridge.forward(flooder, &frame(mac(number), Mac::BROADCAST), 0).unwrap();
    }
    bridge.forward(quiet, &frame(mac(201), Mac::BROADCAST), 1).unwrap();
    assert_eq!(bridge.forward(flooder, &frame(mac(0), mac(201)), 1), Ok(Way::One(quiet)));
    assert_eq!(bridge.forward(quiet, &frame(mac(201), mac(2)), 1), Ok(Way::One(flooder)));
    assert_eq!(bridge.forward(quiet, &frame(mac(201), mac(3)), 1), Ok(Way::Unknown), "beyond the limit");
    // Later there is room again.
    bridge.forward(flooder, &frame(mac(100), Mac::BROADCAST), AGEING + 1).unwrap();
    assert_eq!(bridge.forward(quiet, &frame(mac(201), mac(100)), AGEING + 1), Ok(Way::One(flooder)));
}

#[test]
fn an_address_cannot_be_stolen() {
    let mut bridge = Bridge::default();
    let victim = bridge.add(Settings { mac: Some(mac(1)), ..OPEN }, 0).unwrap();
    let thief = bridge.add(OPEN, 0).unwrap();
    assert_eq!(bridge.forward(thief, &frame(mac(1), Mac::BROADCAST), 0), Err(Refusal::Spoofed));
    assert_eq!(bridge.forward(thief, &frame(mac(9), mac(1)), 0), Ok(Way::One(victim)));
    assert_eq!(bridge.add(Settings { mac: Some(mac(1)), ..OPEN }, 0), None);
    assert_eq!(bridge.counters(thief).unwrap().refused, 1);
    // One that was merely heard gives way to its owner.
    bridge.forward(thief, &frame(mac(5), Mac::BROADCAST), 0).unwrap();
    let owner = bridge.add(Settings { mac: Some(mac(5)), ..OPEN }, 0).unwrap();
    assert_eq!(bridge.forward(victim, &frame(mac(1), mac(5)), 0), Ok(Way::One(owner)));
}

#[test]
fn frames_that_are_none() {
    let mut bridge = Bridge::default();
    let port = bridge.add(OPEN, 0).unwrap();
    assert_eq!(bridge.forward(port, &frame(mac(1), mac(2))[..13], 0), Err(Refusal::TooShort));
    assert_eq!(bridge.forward(port, &[], 0), Err(Refusal::TooShort));
    assert_eq!(bridge.forward(port, &frame(Mac::BROADCAST, mac(2)), 0), Err(Refusal::BadSource));
    assert_eq!(bridge.forward(port, &frame(Mac([0; 6]), mac(2)), 0), Err(Refusal::BadSource));
    let reserved = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);
    assert_eq!(bridge.forward(port, &frame(mac(1), reserved), 0), Err(Refusal::Reserved));
    assert_eq!(bridge.counters(port).unwrap(), Counters { refused: 5, ..Counters::default() });
}

#[test]
fn a_rate_holds_a_port_back_and_no_other() {
    let mut bridge = Bridge::default();
    let rate = Some(Rate { bytes_per_second: 14_000, burst: 14 });
    let (slow, fast) = (bridge.add(Settings { rate, ..OPEN }, 0).unwrap(), bridge.add(OPEN, 0).unwrap());
    for port in [slow, fast] {
        assert_eq!(bridge.ready(port, 0), Ok(()));
        bridge.charge(port, 14);
        bridge.forward(port, &frame(mac(1), Mac::BROADCAST), 0).unwrap();
    }
    assert!(bridge.ready(slow, 0).is_err_and(|when| when < 1_000_000));
    assert_eq!(bridge.ready(fast, 0), Ok(()));
    bridge.set_rate(slow, None, 0);
    assert_eq!(bridge.ready(slow, 0), Ok(()));
    assert_eq!(bridge.counters(slow).unwrap().sent, Traffic { packets: 1, bytes: 14 });
}
