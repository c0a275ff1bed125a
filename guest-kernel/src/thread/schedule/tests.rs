//! Random threads on random vCPUs: what is ready runs, in turn, and nobody sleeps while it could run.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

const THREADS: usize = 12;
const VCPUS: u32 = 4;

/// What the thread does that a vCPU runs, or what happens to it.
#[derive(Clone, Copy, Debug)]
enum Action {
    Spawn,
    /// The thread on this vCPU does something; a vCPU without one looks for one.
    Yield(u32),
    Wait(u32, Option<u64>),
    End(u32),
    Wake(Id),
    Pass(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let vcpu = || 0..VCPUS;
    prop_oneof![
        2 => Just(Action::Spawn),
        3 => vcpu().prop_map(Action::Yield),
        3 => (vcpu(), prop::option::of(0u64..30)).prop_map(|(vcpu, after)| Action::Wait(vcpu, after)),
        1 => vcpu().prop_map(Action::End),
        3 => (0..THREADS as Id).prop_map(Action::Wake),
        2 => (0u64..20).prop_map(Action::Pass),
    ]
}

/// What a vCPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vcpu {
    Runs(Id),
    Sleeps(Option<u64>),
    /// It is to look.
    Awake,
}

struct World {
    schedule: Schedule<THREADS>,
    vcpus: Vec<Vcpu>,
    now: u64,
    /// The threads that wait, with their deadlines.
    waiting: BTreeMap<Id, Option<u64>>,
    tokens: BTreeSet<Id>,
    alive: BTreeSet<Id>,
}

impl World {
    fn kicked(&mut self, Kicks(bits): Kicks) {
        for vcpu in (0..VCPUS).filter(|vcpu| bits >> vcpu & 1 != 0) {
            // One whose time has come may be kicked before it looks.
            assert!(!matches!(self.vcpus[vcpu as usize], Vcpu::Runs(_)), "{vcpu} was kicked and doesn't sleep");
            self.vcpus[vcpu as usize] = Vcpu::Awake;
        }
    }

    /// All vCPUs that are awake look for something to do, and so do those whose time has come.
    fn settle(&mut self) {
        for vcpu in 0..VCPUS {
            if let Vcpu::Sleeps(Some(until)) = self.vcpus[vcpu as usize]
                && until <= self.now
            {
                self.vcpus[vcpu as usize] = Vcpu::Awake;
            }
        }
        while let Some(vcpu) = self.vcpus.iter().position(|vcpu| *vcpu == Vcpu::Awake) {
            let (next, kicks) = self.schedule.next(vcpu as u32, self.now);
            self.kicked(kicks);
            let now = self.now;
            self.waiting.retain(|_, until| until.is_none_or(|until| until > now));
            self.vcpus[vcpu] = match next {
                Next::Run(id) => Vcpu::Runs(id),
                Next::Sleep(until) => Vcpu::Sleeps(until),
                Next::Stop => Vcpu::Sleeps(None),
            };
            if next == Next::Stop {
                assert!(self.alive.is_empty());
                // As if the next `run` began.
                self.vcpus[vcpu] = Vcpu::Sleeps(None);
                self.schedule.sleeping |= 1 << vcpu;
            }
        }
    }

    fn check(&self) {
        let running: Vec<Id> =
            self.vcpus.iter().filter_map(|vcpu| if let Vcpu::Runs(id) = vcpu { Some(*id) } else { None }).collect();
        let distinct: BTreeSet<Id> = running.iter().copied().collect();
        assert_eq!(distinct.len(), running.len(), "on two vCPUs at once");
        assert!(distinct.iter().all(|id| self.alive.contains(id) && !self.waiting.contains_key(id)));
        let ready = self.alive.len() - self.waiting.len() - running.len();
        assert_eq!(ready, self.schedule.count, "ready threads");
        let sleepers = self.vcpus.iter().filter(|vcpu| matches!(vcpu, Vcpu::Sleeps(_)));
        assert!(ready == 0 || sleepers.count() == 0, "a vCPU sleeps while a thread is ready");
        if let Some(first) = self.waiting.values().flatten().min()
            && self.vcpus.iter().any(|vcpu| matches!(vcpu, Vcpu::Sleeps(_)))
        {
            let awake = self.vcpus.iter().any(|vcpu| matches!(vcpu, Vcpu::Sleeps(Some(until)) if until <= first));
            assert!(awake, "nobody wakes for {first}");
        }
    }

    /// The thread on a vCPU stops running.
    fn leave(&mut self, vcpu: u32) -> Option<Id> {
        let Vcpu::Runs(id) = self.vcpus[vcpu as usize] else { return None };
        self.vcpus[vcpu as usize] = Vcpu::Awake;
        Some(id)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_wake_up_is_lost(actions in prop::collection::vec(action(), 0..200)) {
        let mut world = World {
            schedule: Schedule::new(),
            vcpus: vec![Vcpu::Sleeps(None); VCPUS as usize],
            now: 0,
            waiting: BTreeMap::new(),
            tokens: BTreeSet::new(),
            alive: BTreeSet::new(),
        };
        world.schedule.sleeping = (1 << VCPUS) - 1;
        for action in actions {
            match action {
                Action::Spawn => {
                    let id = world.schedule.reserve();
                    prop_assert_eq!(id.is_none(), world.alive.len() == THREADS);
                    if let Some(id) = id {
                        prop_assert!(world.alive.insert(id));
                        world.tokens.remove(&id);
                        let kicks = world.schedule.start(id);
                        world.kicked(kicks);
                    }
                }
                Action::Yield(vcpu) => if let Some(id) = world.leave(vcpu) {
                    let kicks = world.schedule.yielded(id);
                    world.kicked(kicks);
                },
                Action::Wait(vcpu, after) => if let Some(id) = world.leave(vcpu) {
                    let until = after.map(|after| world.now + after);
                    if !world.tokens.remove(&id) {
                        world.waiting.insert(id, until);
                    }
                    let kicks = world.schedule.wait(id, until);
                    world.kicked(kicks);
                },
                Action::End(vcpu) => if let Some(id) = world.leave(vcpu) {
                    world.alive.remove(&id);
                    let kicks = world.schedule.ended(id);
                    world.kicked(kicks);
                },
                Action::Wake(id) => {
                    if world.alive.contains(&id) && world.waiting.remove(&id).is_none() {
                        world.tokens.insert(id);
                    }
                    let kicks = world.schedule.wake(id);
                    world.kicked(kicks);
                }
                Action::Pass(time) => world.now += time,
            }
            world.settle();
            world.check();
        }
    }
}

#[test]
fn threads_have_turns() {
    let mut schedule = Schedule::<3>::new();
    for _ in 0..3 {
        let id = schedule.reserve().unwrap();
        assert_eq!(schedule.start(id), Kicks::NONE);
    }
    assert_eq!(schedule.reserve(), None);
    let mut order = vec![];
    for _ in 0..9 {
        let (Next::Run(id), _) = schedule.next(0, 0) else { panic!("all are ready") };
        order.push(id);
        assert_eq!(schedule.yielded(id), Kicks::NONE);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}
