//! Interrupts on their way: a device that asks at any time, and a domain that answers when it likes.

use proptest::prelude::*;

use crate::device::pirq::{Nature, Pirqs, Source};

const VECTOR: u8 = 0x30;
const NUMBER: u32 = 5;
const PORT: u32 = 9;
const SOURCE: Source = Source::Pin { gsi: NUMBER };

/// A source, what it is wired to, and the domain that listens.
struct World {
    pirqs: Pirqs,
    nature: Nature,
    /// The device wants something.
    asking: bool,
    masked: bool,
    /// An edge or a message has reached the local APIC, where no mask stops it any more.
    accepted: bool,
    /// The device keeps a message that is masked.
    kept: bool,
    /// The port is pending.
    pending: bool,
    /// Interrupts since the domain last said that it had dealt with one.
    since_end: u32,
    most: u32,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// The device begins to want something.
    Ask,
    /// The machine delivers what is due. Before the hypervisor gets to mask the source, the device asks again, or doesn't.
    Deliver { asks_again: bool },
    /// The domain takes the event, says so, and does what the device wants.
    Serve,
    /// The domain says that it has dealt with an interrupt, without having looked.
    End,
}

impl World {
    fn new(nature: Nature) -> World {
        let mut pirqs = Pirqs::new();
        pirqs.add(NUMBER, SOURCE, VECTOR, nature).unwrap();
        pirqs.bind(NUMBER, PORT).unwrap();
        World {
            pirqs,
            nature,
            asking: false,
            masked: false,
            accepted: false,
            kept: false,
            pending: false,
            since_end: 0,
            most: 0,
        }
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Ask => {
                // Only the beginning is an edge; at a masked pin it is lost.
                let is_edge = !self.asking || self.nature.remembers;
                self.asking = true;
                self.accepted |= is_edge && !self.masked;
                self.kept |= self.masked && self.nature.remembers;
            }
            Action::Deliver { asks_again } => self.deliver(asks_again),
            Action::Serve if self.pending => {
                self.pending = false;
                self.end();
                self.asking = false;
            }
            Action::Serve => {}
            Action::End => self.end(),
        }
    }

    fn deliver(&mut self, asks_again: bool) {
        let due = if self.nature.level { self.asking && !self.masked } else { self.accepted };
        if !due {
            return;
        }
        self.accepted = false;
        if asks_again {
            self.take(Action::Ask);
        }
        let (_, arrived) = self.pirqs.arrived(VECTOR).unwrap();
        self.masked |= arrived.mask;
        self.pending |= arrived.port == Some(PORT);
        self.since_end += 1;
        self.most = self.most.max(self.since_end);
    }

    fn end(&mut self) {
        let ended = self.pirqs.ended(NUMBER).unwrap();
        self.masked &= !ended.unmask;
        self.accepted |= !self.masked && core::mem::take(&mut self.kept);
        self.pending |= ended.again == Some(PORT);
        self.since_end = 0;
    }
}

fn natures() -> impl Strategy<Value = Nature> {
    prop_oneof![
        Just(Nature { level: true, remembers: false }),
        Just(Nature { level: false, remembers: false }),
        Just(Nature { level: false, remembers: true }),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    let deliver = any::<bool>().prop_map(|asks_again| Action::Deliver { asks_again });
    prop_oneof![Just(Action::Ask), deliver, Just(Action::Serve), Just(Action::End)]
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_floods(nature in natures(), actions in prop::collection::vec(actions(), 0..60)) {
        let mut world = World::new(nature);
        for action in actions {
            world.take(action);
            let limit = if nature.level { 1 } else { 3 };
            prop_assert!(world.most <= limit, "{} interrupts at once", world.most);
        }
        // The device asks no more than it did; the domain serves as long as it is told to.
        for _ in 0..8 {
            world.take(Action::Deliver { asks_again: false });
            world.take(Action::Serve);
        }
        prop_assert!(!world.asking, "the device waits for ever");
        prop_assert!(!world.pending && !world.masked);
    }
}

/// A line that stays active, whatever the domain does: one interrupt for each of its words.
#[test]
fn a_stuck_line_interrupts_as_often_as_the_domain_asks() {
    let mut world = World::new(Nature { level: true, remembers: false });
    for _ in 0..100 {
        world.asking = true;
        for _ in 0..10 {
            world.take(Action::Deliver { asks_again: false });
        }
        assert_eq!(world.since_end, 1);
        world.take(Action::End);
    }
}

/// A message was on its way when the one before it made the hypervisor mask the source: that stays known.
#[test]
fn one_that_comes_behind_the_mask_leaves_it_to_be_lifted() {
    for remembers in [false, true] {
        let mut world = World::new(Nature { level: false, remembers });
        let mut masks = || world.pirqs.arrived(VECTOR).unwrap().1.mask;
        assert!(!masks() && masks());
        let _ = masks();
        assert!(world.pirqs.ended(NUMBER).unwrap().unmask);
    }
}

/// One that arrives when nobody listens is masked, and doesn't come again.
#[test]
fn a_stray_interrupt_is_silenced() {
    let mut world = World::new(Nature { level: false, remembers: true });
    world.pirqs.unbind(NUMBER);
    let (_, arrived) = world.pirqs.arrived(VECTOR).unwrap();
    assert!(arrived.mask && arrived.port.is_none());
    assert!(world.pirqs.arrived(VECTOR + 1).is_none());
    assert_eq!(world.pirqs.ended(NUMBER).unwrap(), Default::default());
}
