use super::*;
use proptest::prelude::*;
use std::vec;

#[derive(Debug, PartialEq, Clone, Copy)]
struct Cpu(u32);

impl Entity for Cpu {
    type Key = u32;

    fn key(&self) -> u32 {
        self.0
    }
}

#[test]
fn ready_vcpus_take_turns() {
    let mut queue = RunQueue::default();
    for id in 0..3 {
        queue.push(Cpu(id));
    }
    let mut order = vec![];
    for _ in 0..6 {
        let next = queue.pick().unwrap();
        order.push(next.0);
        queue.push(next);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn those_who_are_ready_have_no_deadline() {
    let mut queue = RunQueue::default();
    assert_eq!(queue.next_deadline(), None);
    queue.sleep(Cpu(1), Some(9));
    queue.push(Cpu(2));
    assert_eq!(queue.next_deadline(), Some(9));
}

#[derive(Debug, Clone)]
enum Action {
    Pick,
    SleepFor(Option<u8>),
    Wake(u32),
    Pass(u8),
    Remove(u32),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Pick),
        proptest::option::of(any::<u8>()).prop_map(Action::SleepFor),
        (0..6_u32).prop_map(Action::Wake),
        any::<u8>().prop_map(Action::Pass),
        (0..6_u32).prop_map(Action::Remove),
    ]
}

proptest! {
    // However vCPUs run, sleep, wake and leave: each exists exactly once, none is woken early, none sleeps on.
    #[test]
    fn no_vcpu_is_lost_or_doubled(actions in proptest::collection::vec(action(), 0..80)) {
        let mut queue = RunQueue::default();
        let mut now = 0_u64;
        let mut asleep = std::collections::BTreeMap::new();
        let mut alive: std::collections::BTreeSet<u32> = (0..6).collect();
        let mut running: Option<Cpu> = None;
        for id in 0..6 {
            queue.push(Cpu(id));
        }
        for action in actions {
            match action {
                Action::Pick => {
                    if let Some(previous) = running.take() {
                        queue.push(previous);
                    }
                    running = queue.pick();
                    prop_assert_eq!(running.is_some(), alive.len() > asleep.len());
                    if let Some(cpu) = running {
                        prop_assert!(!asleep.contains_key(&cpu.0));
                    }
                }
                Action::SleepFor(time) => {
                    if let Some(cpu) = running.take() {
                        let until = time.map(|time| now + u64::from(time));
                        asleep.insert(cpu.0, until);
                        queue.sleep(cpu, until);
                    }
                }
                Action::Wake(id) => {
                    prop_assert_eq!(queue.wake(id), asleep.remove(&id).is_some());
                }
                Action::Pass(time) => {
                    now += u64::from(time);
                    queue.expire(now, |_| ());
                    asleep.retain(|_, until| until.is_none_or(|until| until > now));
                }
                Action::Remove(id) => {
                    let found = queue.remove(|cpu| cpu.0 == id);
                    let here = alive.contains(&id) && running.is_none_or(|cpu| cpu.0 != id);
                    prop_assert_eq!(found.is_some(), here);
                    if here {
                        alive.remove(&id);
                        asleep.remove(&id);
                    }
                }
            }
            let expected = asleep.values().copied().flatten().min();
            prop_assert_eq!(queue.next_deadline(), expected);
        }
    }
}
