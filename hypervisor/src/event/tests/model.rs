//! Random actions of two domains and their guests, against a model that knows which ports are pending and masked.

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use super::guest::Guest;
use super::*;
use crate::event::Closing;
use crate::event::fifo::link::LINKED;
use core::sync::atomic::Ordering::SeqCst;
use proptest::prelude::*;
use pv_abi::errno::Errno;
use pv_abi::event::*;

const MAX_PORTS: u32 = 12;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Bound {
    Unbound(usize),
    To(usize, u32),
    Timer,
    Ipi,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    bound: Bound,
    vcpu: VcpuId,
    pending: bool,
}

/// What is known of a domain.
#[derive(Default)]
struct Model {
    ports: BTreeMap<u32, Known>,
    masked: BTreeSet<u32>,
}

struct World {
    guests: [Guest; 2],
    models: [Model; 2],
    /// vCPUs that were kicked since their last upcall.
    kicked: BTreeSet<(u16, u32)>,
}

/// What is done: by which domain, what, and to which port, vCPU or other domain.
#[derive(Clone, Copy, Debug)]
struct Action {
    domain: usize,
    kind: u8,
    port: u32,
    vcpu: u32,
    other: usize,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = (0..2_usize, 0..40_u8, 1..MAX_PORTS, 0..2_u32, 0..2_usize);
    proptest::collection::vec(
        action.prop_map(|(domain, kind, port, vcpu, other)| Action { domain, kind, port, vcpu, other }),
        1..120,
    )
}

impl World {
    fn new() -> World {
        let guest = |id| Guest::new(domain(id, 2, MAX_PORTS));
        World { guests: [1, 2].map(guest), models: Default::default(), kicked: BTreeSet::new() }
    }

    fn carry_out(&mut self, wake: Wake) {
        let mut kicked = Kicked::default();
        wake.kick(&mut kicked);
        self.kicked.extend(kicked.0);
    }

    /// The number that the next port of a domain must have.
    fn free(&self, domain: usize) -> Option<u32> {
        let in_queue = |port: u32| self.guests[domain].word(port).is_some_and(|word| word.load(SeqCst) & LINKED != 0);
        (1..MAX_PORTS).find(|port| !self.models[domain].ports.contains_key(port) && !in_queue(*port))
    }

    /// A new port of a domain, if `free` was to be had.
    fn made(&mut self, domain: usize, made: Result<u32, Errno>, free: Option<u32>, bound: Bound, vcpu: VcpuId) {
        assert_eq!(made.ok(), free);
        if let Some(port) = free {
            self.models[domain].ports.insert(port, Known { bound, vcpu, pending: false });
        }
    }

    fn set_pending(&mut self, domain: usize, port: u32) {
        self.models[domain].ports.get_mut(&port).unwrap().pending = true;
    }

    fn close(&mut self, domain: usize, port: u32) {
        if let Some(Known { bound: Bound::To(peer, number), .. }) = self.models[domain].ports.remove(&port) {
            self.models[peer].ports.get_mut(&number).unwrap().bound = Bound::Unbound(domain);
        }
    }

    fn act(&mut self, Action { domain, kind, port, vcpu, other }: Action) {
        let events = self.guests[domain].events.clone();
        let (vcpu, known) = (VcpuId(vcpu), self.models[domain].ports.get(&port).copied());
        let free = self.free(domain);
        match kind {
            0..3 => {
                let made = events.alloc_unbound(self.guests[other].events.domain);
                self.made(domain, made, free, Bound::Unbound(other), V0);
            }
            3..6 => {
                let waits =
                    self.models[other].ports.get(&port).is_some_and(|port| port.bound == Bound::Unbound(domain));
                let made = events.bind_interdomain(&self.guests[other].events, port);
                if let Ok((local, wake)) = made {
                    assert!(waits);
                    self.made(domain, Ok(local), free, Bound::To(other, port), V0);
                    self.models[other].ports.get_mut(&port).unwrap().bound = Bound::To(domain, local);
                    self.set_pending(domain, local);
                    self.carry_out(wake);
                } else if waits {
                    self.made(domain, made.map(|(local, _)| local), free, Bound::Ipi, V0);
                }
            }
            6..8 => {
                let made = events.bind_ipi(vcpu);
                self.made(domain, made, free, Bound::Ipi, vcpu);
            }
            8 => {
                let timer = |known: &Known| known.bound == Bound::Timer && known.vcpu == vcpu;
                let exists = self.models[domain].ports.values().any(timer);
                assert_eq!(events.is_virq_bound(VIRQ_TIMER, vcpu), exists);
                if !exists {
                    let made = events.bind_virq(VIRQ_TIMER, vcpu);
                    self.made(domain, made, free, Bound::Timer, vcpu);
                }
            }
            9..15 => {
                let timer = |known: &Known| known.bound == Bound::Timer && known.vcpu == vcpu;
                let port = self.models[domain].ports.iter().find(|(_, known)| timer(known)).map(|(port, _)| *port);
                self.carry_out(events.raise(VIRQ_TIMER, vcpu));
                port.into_iter().for_each(|port| self.set_pending(domain, port));
            }
            15..24 => match (events.send(port), known.map(|known| known.bound)) {
                (Ok(wake), Some(bound)) => {
                    match bound {
                        Bound::To(peer, number) => self.set_pending(peer, number),
                        Bound::Ipi => self.set_pending(domain, port),
                        Bound::Unbound(_) => {}
                        Bound::Timer => panic!("a timer was sent to"),
                    }
                    self.carry_out(wake);
                }
                (Err(_), None | Some(Bound::Timer)) => {}
                (_, bound) => panic!("sending to {bound:?}"),
            },
            24 => {
                assert_eq!(events.close(port).is_ok(), known.is_some());
                self.close(domain, port);
            }
            25..28 => {
                self.guests[domain].mask(port);
                self.models[domain].masked.insert(port);
            }
            28..32 if known.is_some() => {
                self.models[domain].masked.remove(&port);
                if other == 0 { self.unmask(domain, port) } else { self.carry_out(events.unmask(port).unwrap()) }
            }
            32..35 if matches!(known, Some(Known { bound: Bound::To(..) | Bound::Unbound(_), .. })) => {
                let masked = self.models[domain].masked.contains(&port);
                let wake = self.guests[domain].migrate(port, vcpu, masked);
                self.models[domain].ports.get_mut(&port).unwrap().vcpu = vcpu;
                wake.into_iter().for_each(|wake| self.carry_out(wake));
            }
            35 if !self.guests[domain].fifo => self.guests[domain].use_fifo(),
            36 if self.guests[domain].fifo && self.guests[domain].words == 0 => {
                let masked = self.models[domain].masked.clone();
                let wake = self.guests[domain].expand(|port| masked.contains(&port));
                self.carry_out(wake);
            }
            37 if self.guests[domain].fifo && known.is_some() => events.set_priority(port, 5 + vcpu.0).unwrap(),
            38 if port == 1 => self.reset(domain),
            _ => self.upcall(domain, vcpu),
        }
    }

    /// A guest unmasks its port, and tells its vCPU itself if it can.
    fn unmask(&mut self, domain: usize, port: u32) {
        let guest = &self.guests[domain];
        let vcpu = guest.events.status(port).unwrap().vcpu;
        let before = guest.events.vcpu(VcpuId(vcpu)).unwrap().info().upcall_pending();
        if let Some(wake) = guest.unmask(port) {
            self.carry_out(wake);
        } else if !before {
            self.kicked.insert((guest.events.domain.0, vcpu));
        }
    }

    fn reset(&mut self, domain: usize) {
        let events = self.guests[domain].events.clone();
        while !events.close_all(Closing::Reset, &mut 3) {}
        while events.take_frame().is_some() {}
        (1..MAX_PORTS).for_each(|port| self.close(domain, port));
        if self.guests[domain].fifo {
            // The bitmaps were not looked at meanwhile.
            self.guests[domain].forget_fifo();
            for port in 1..MAX_PORTS {
                self.guests[domain].clear(port);
                let masked = self.models[domain].masked.contains(&port);
                if masked { self.guests[domain].mask(port) } else { self.unmask(domain, port) }
            }
        }
    }

    /// The guest takes what an upcall brings: nothing but what is pending and not masked.
    fn upcall(&mut self, domain: usize, vcpu: VcpuId) {
        let mut ports = vec![];
        let guest = &mut self.guests[domain];
        if guest.upcall(vcpu, |port| ports.push(port)) {
            self.kicked.remove(&(guest.events.domain.0, vcpu.0));
        }
        for port in ports {
            let Model { ports, masked } = &mut self.models[domain];
            let known = ports.get_mut(&port).expect("an event on a port that is not in use");
            assert!(known.pending && !masked.contains(&port), "port {port} was delivered: {known:?}");
            known.pending = false;
        }
    }

    /// What the rules say is what the model says.
    fn check(&self) {
        for (guest, model) in self.guests.iter().zip(&self.models) {
            for port in 1..MAX_PORTS {
                let status = guest.events.status(port).unwrap();
                let expected = match model.ports.get(&port).map(|known| known.bound) {
                    None => (EVTCHNSTAT_CLOSED, 0, 0),
                    Some(Bound::Unbound(domain)) => (EVTCHNSTAT_UNBOUND, domain as u32 + 1, 0),
                    Some(Bound::To(domain, port)) => (EVTCHNSTAT_INTERDOMAIN, domain as u32 + 1, port),
                    Some(Bound::Timer) => (EVTCHNSTAT_VIRQ, VIRQ_TIMER, 0),
                    Some(Bound::Ipi) => (EVTCHNSTAT_IPI, 0, 0),
                };
                assert_eq!((status.status, status.detail, status.remote_port), expected, "port {port}");
                let pending = model.ports.get(&port).is_some_and(|known| known.pending);
                assert_eq!(guest.events.is_pending(port), Ok(pending), "port {port}");
            }
            for link in guest.events.vcpus() {
                let known = !link.info().upcall_pending() || self.kicked.contains(&(link.domain.0, link.id.0));
                assert!(known, "an upcall that its vCPU wasn't kicked for");
            }
        }
    }

    /// All that is pending and not masked is delivered by upcalls that are pending.
    fn drain(&mut self) {
        for domain in 0..2 {
            if self.guests[domain].fifo && self.guests[domain].words == 0 {
                let masked = self.models[domain].masked.clone();
                let wake = self.guests[domain].expand(|port| masked.contains(&port));
                self.carry_out(wake);
            }
            [V0, V1].into_iter().for_each(|vcpu| self.upcall(domain, vcpu));
            let Model { ports, masked } = &self.models[domain];
            let lost: Vec<_> = ports.iter().filter(|(port, known)| known.pending && !masked.contains(port)).collect();
            assert!(lost.is_empty(), "lost: {lost:?}");
        }
    }
}

proptest! {
    #![proptest_config(crate::mm::tests::config(512))]

    #[test]
    fn what_is_pending_is_delivered_and_nothing_else(actions in actions()) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.check();
        }
        world.drain();
        world.check();
    }
}
