use std::collections::BTreeMap;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::share::Share;
use super::*;
use crate::mm::flush::AtomicCpuSet;

const MS: u64 = 1_000_000;

struct Vcpu {
    id: u32,
    account: Account,
}

impl Entity for Vcpu {
    type Key = u32;

    fn key(&self) -> u32 {
        self.id
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }
}

fn affinity(cpus: CpuSet) -> Arc<AtomicCpuSet> {
    let affinity = AtomicCpuSet::new();
    affinity.store(cpus);
    Arc::new(affinity)
}

/// A vCPU of a domain of its own.
fn vcpu(id: u32, weight: u16, allowed: CpuSet) -> Vcpu {
    Vcpu { id, account: Account::new(Arc::new(Share::new(weight, 0)), affinity(allowed)) }
}

fn queue(cpu: u32) -> RunQueue<Vcpu> {
    let mut queue = RunQueue::new(CpuId(cpu));
    queue.reserve(VCPUS as usize);
    queue
}

const VCPUS: u32 = 6;
const CPUS: CpuSet = CpuSet::first(2);
const NUMBERS: [CpuId; 2] = [CpuId(0), CpuId(1)];

#[test]
fn time_follows_weight() {
    let (board, mut queue) = (Board::new(), queue(0));
    for (id, weight) in [(0, 100), (1, 300)] {
        queue.admit(vcpu(id, weight, CPUS), 0, &board);
    }
    let (mut now, mut ran) = (0, [0, 0]);
    while now < 4_000 * MS {
        let runs = queue.pick(now, &board).unwrap();
        let before = now;
        loop {
            now = queue.next_deadline().unwrap();
            if queue.must_leave(&runs.account, now) {
                break;
            }
        }
        ran[runs.id as usize] += now - before;
        queue.put_back(runs, false, now, &board);
    }
    assert!(ran[0].abs_diff(1_000 * MS) <= MOST_SLICE, "{ran:?}");
}

#[test]
fn one_alone_is_never_interrupted() {
    let (board, mut queue) = (Board::new(), queue(0));
    queue.admit(vcpu(0, 256, CPUS), 0, &board);
    let runs = queue.pick(0, &board).unwrap();
    assert_eq!(queue.next_deadline(), None);
    assert!(!queue.must_leave(&runs.account, 1_000 * MS));
    // Until another one comes: then both have their turns.
    assert!(queue.admit(vcpu(1, 256, CPUS), 1_000 * MS, &board));
    assert!(queue.next_deadline().is_some_and(|deadline| deadline <= 1_000 * MS + MOST_SLICE));
}

#[test]
fn who_wakes_goes_before_who_ran_on() {
    let (board, mut queue) = (Board::new(), queue(0));
    queue.admit(vcpu(0, 256, CpuSet::first(1)), 0, &board);
    let sleeper = queue.pick(0, &board).unwrap();
    queue.sleep(sleeper, None, MS, &board);
    queue.admit(vcpu(1, 256, CpuSet::first(1)), MS, &board);
    let runs = queue.pick(MS, &board).unwrap();
    assert!(matches!(queue.wake(0, 9 * MS, &board), Woken::Here { kick: true }));
    assert!(queue.must_leave(&runs.account, 9 * MS));
    queue.put_back(runs, false, 9 * MS, &board);
    assert_eq!(queue.pick(9 * MS, &board).unwrap().id, 0);
}

#[test]
fn who_was_just_put_on_the_cpu_stays_a_little() {
    let (board, mut queue) = (Board::new(), queue(0));
    queue.admit(vcpu(0, 256, CpuSet::first(1)), 0, &board);
    let runs = queue.pick(0, &board).unwrap();
    queue.sleep(runs, None, MS, &board);
    queue.admit(vcpu(1, 1, CpuSet::first(1)), MS, &board);
    let runs = queue.pick(MS, &board).unwrap();
    queue.wake(0, MS + LEAST_RUN / 2, &board);
    assert!(!queue.must_leave(&runs.account, MS + LEAST_RUN / 2));
    assert_eq!(queue.next_deadline(), Some(MS + LEAST_RUN));
    assert!(queue.must_leave(&runs.account, MS + LEAST_RUN));
}

#[test]
fn a_new_cap_ends_a_run_without_limit() {
    let (board, mut queue) = (Board::new(), queue(0));
    queue.admit(vcpu(0, 256, CPUS), 0, &board);
    let runs = queue.pick(0, &board).unwrap();
    runs.account.share().set_cap(10);
    assert!(runs.account.escapes_cap() && queue.must_leave(&runs.account, MS));
    queue.put_back(runs, false, MS, &board);
    let runs = queue.pick(MS, &board).unwrap();
    assert!(!runs.account.escapes_cap());
    assert_eq!(queue.next_deadline(), Some(4 * MS), "10 % of 30 ms");
    // A cap that goes away leaves nothing behind.
    runs.account.share().set_cap(0);
    assert!(queue.must_leave(&runs.account, 4 * MS));
    queue.put_back(runs, false, 4 * MS, &board);
    let runs = queue.pick(4 * MS, &board).unwrap();
    assert_eq!(queue.next_deadline(), None);
    assert!(!queue.must_leave(&runs.account, 1_000 * MS));
}

#[test]
fn who_comes_from_no_queue_gets_a_cpu_that_it_may_use() {
    let (board, mut queues) = (Board::new(), NUMBERS.map(|CpuId(cpu)| queue(cpu)));
    assert!(queues[0].pick(0, &board).is_none());
    assert_eq!(board.place(NUMBERS[0], CPUS, 0), NUMBERS[0]);
    // The first CPU is idle, and can be found once.
    assert_eq!([1, 1].map(|turn| board.place(NUMBERS[1], CpuSet::first(1), turn)), [NUMBERS[0]; 2]);
    assert!(board.take_idle(CPUS).is_none());
    queues[1].admit(vcpu(0, 256, CPUS), 0, &board);
    assert_eq!(board.place(NUMBERS[1], CPUS, 0), NUMBERS[1], "busy, and none is idle");
    assert!(queues[0].pick(0, &board).is_none());
    assert_eq!(board.place(NUMBERS[1], CPUS, 0), NUMBERS[0], "that one is idle");
    // None that it may use is idle: they are dealt out.
    let far = CpuSet::from_bits(0b1100);
    assert_eq!([0, 1, 2].map(|turn| board.place(NUMBERS[0], far, turn).0), [2, 3, 2]);
}

#[test]
fn a_yield_lets_the_next_one_go_first() {
    let (board, mut queue) = (Board::new(), queue(0));
    for id in 0..3 {
        queue.admit(vcpu(id, 256, CPUS), 0, &board);
    }
    let mut order = vec![];
    for now in 0..6 {
        let runs = queue.pick(now, &board).unwrap();
        order.push(runs.id);
        queue.put_back(runs, true, now, &board);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn who_has_waited_long_goes_first() {
    let (board, mut queue) = (Board::new(), queue(0));
    queue.admit(vcpu(0, 1, CPUS), 0, &board);
    queue.admit(vcpu(1, u16::MAX, CPUS), 0, &board);
    let first = queue.pick(0, &board).unwrap();
    assert_eq!(first.id, 0);
    queue.put_back(first, false, MS, &board);
    let heavy = queue.pick(MS, &board).unwrap();
    assert!(!queue.must_leave(&heavy.account, MS + PATIENCE - 1));
    // At the end of the slice that began then.
    let slice_end = queue.next_deadline().unwrap();
    assert!(slice_end <= MS + PATIENCE + MOST_SLICE && queue.must_leave(&heavy.account, slice_end));
    queue.put_back(heavy, false, slice_end, &board);
    assert_eq!(queue.pick(slice_end, &board).unwrap().id, 0);
    assert_eq!(queue.next_deadline(), Some(slice_end + LEAST_SLICE));
}

#[test]
fn an_idle_cpu_takes_what_waits_elsewhere_if_it_may() {
    let (board, mut busy, mut idle) = (Board::new(), queue(0), queue(1));
    assert!(idle.pick(0, &board).is_none() && idle.victim(0, &board).is_none());
    for (id, allowed) in [(0, CPUS), (1, CpuSet::first(1)), (2, CPUS)] {
        busy.admit(vcpu(id, 256, allowed), 0, &board);
    }
    assert_eq!(busy.pick(0, &board).unwrap().id, 0);
    assert_eq!(busy.helper(0, &board), Some(CpuId(1)));
    // It is asked once.
    assert_eq!(busy.helper(0, &board), None);
    let (victim, limit) = idle.victim(0, &board).unwrap();
    assert_eq!((victim, limit), (CpuId(0), None));
    let stolen = busy.give(CpuId(1), limit, 0, &board).unwrap();
    assert_eq!(stolen.id, 2);
    idle.admit(stolen, 0, &board);
    assert_eq!(idle.pick(0, &board).unwrap().id, 2);
    // The other one may not move.
    assert!(busy.give(CpuId(1), None, 0, &board).is_none());
    assert_eq!(busy.helper(0, &board), None);
}

#[test]
fn a_dedicated_cpu_neither_takes_nor_gives() {
    let (board, mut shared, mut dedicated) = (Board::new(), queue(0), queue(1));
    board.dedicate(CpuSet::only(CpuId(1)));
    dedicated.admit(vcpu(9, 256, CpuSet::only(CpuId(1))), 0, &board);
    let runs = dedicated.pick(0, &board).unwrap();
    assert_eq!(dedicated.next_deadline(), None);
    for id in 0..3 {
        shared.admit(vcpu(id, 256, CPUS.difference(board.dedicated())), 0, &board);
    }
    shared.pick(0, &board);
    assert_eq!(shared.helper(MS, &board), None);
    assert!(dedicated.victim(MS, &board).is_none());
    // Not even while its vCPU sleeps.
    dedicated.sleep(runs, None, MS, &board);
    assert!(dedicated.pick(MS, &board).is_none() && dedicated.victim(MS, &board).is_none());
    assert_eq!(shared.helper(MS, &board), None);
}

#[test]
fn a_sleeper_wakes_on_an_idle_cpu_if_its_own_is_busy() {
    let (board, mut here, mut there) = (Board::new(), queue(0), queue(1));
    here.admit(vcpu(0, 256, CPUS), 0, &board);
    let runs = here.pick(0, &board).unwrap();
    here.sleep(runs, None, 0, &board);
    here.admit(vcpu(1, 256, CPUS), 0, &board);
    let _runs = here.pick(0, &board);
    assert!(there.pick(0, &board).is_none());
    let Woken::Moves(moved, to) = here.wake(0, MS, &board) else { panic!("it stays") };
    assert_eq!((moved.id, to), (0, CpuId(1)));
    assert!(there.admit(moved, MS, &board));
    assert!(there.pick(MS, &board).is_some());
}

#[derive(Debug, Clone)]
enum Action {
    Pick(usize),
    PutBack(usize, bool),
    Dismiss(usize),
    Sleep(usize, Option<u8>),
    Wake(u32),
    Pass(u8),
    Steal(usize),
    Remove(u32),
    Weigh(u32, u16),
    Allow(u32, CpuSet),
}

fn action() -> impl Strategy<Value = Action> {
    let queue = || 0..2_usize;
    prop_oneof![
        4 => queue().prop_map(Action::Pick),
        2 => (queue(), any::<bool>()).prop_map(|(queue, yields)| Action::PutBack(queue, yields)),
        1 => queue().prop_map(Action::Dismiss),
        3 => (queue(), proptest::option::of(any::<u8>())).prop_map(|(queue, time)| Action::Sleep(queue, time)),
        3 => (0..VCPUS).prop_map(Action::Wake),
        3 => any::<u8>().prop_map(Action::Pass),
        2 => queue().prop_map(Action::Steal),
        1 => (0..VCPUS).prop_map(Action::Remove),
        1 => (0..VCPUS, any::<u16>()).prop_map(|(id, weight)| Action::Weigh(id, weight)),
        1 => (0..VCPUS, 1..4_u64).prop_map(|(id, cpus)| Action::Allow(id, CpuSet::from_bits(cpus))),
    ]
}

/// Where the naive model has a vCPU.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Ready(usize),
    Running(usize),
    Asleep(usize, Option<u64>),
}

/// Two queues, and where each vCPU must be.
struct World {
    board: Board,
    queues: [RunQueue<Vcpu>; 2],
    running: [Option<Vcpu>; 2],
    places: BTreeMap<u32, Place>,
    shares: Vec<Arc<Share>>,
    affinities: Vec<Arc<AtomicCpuSet>>,
    now: u64,
}

impl World {
    fn new() -> World {
        let mut world = World {
            board: Board::new(),
            queues: [queue(0), queue(1)],
            running: [None, None],
            places: BTreeMap::new(),
            shares: (0..VCPUS).map(|id| Arc::new(Share::new(1 << id, 0))).collect(),
            // The last one may use the second CPU only.
            affinities: (0..VCPUS)
                .map(|id| affinity(if id == VCPUS - 1 { CpuSet::only(CpuId(1)) } else { CPUS }))
                .collect(),
            now: 0,
        };
        for id in 0..VCPUS {
            let (share, affinity) = (&world.shares[id as usize], &world.affinities[id as usize]);
            let account = Account::new(share.clone(), affinity.clone());
            world.admit(1, Vcpu { id, account });
        }
        world
    }

    fn admit(&mut self, queue: usize, vcpu: Vcpu) {
        assert!(vcpu.account.allowed().contains(NUMBERS[queue]));
        self.places.insert(vcpu.id, Place::Ready(queue));
        self.queues[queue].admit(vcpu, self.now, &self.board);
    }

    fn act(&mut self, action: Action) {
        let World { board, queues, running, places, shares, affinities, now } = self;
        match action {
            Action::Pick(at) if running[at].is_none() => {
                running[at] = queues[at].pick(*now, board);
                let picked = running[at].as_ref().map(|vcpu| places.insert(vcpu.id, Place::Running(at)));
                let expected = places.values().any(|&place| place == Place::Ready(at)).then_some(Place::Ready(at));
                assert_eq!(picked.flatten().or(expected), picked.flatten(), "one that is ready here runs");
                assert!(picked.is_none_or(|from| from == Some(Place::Ready(at))));
            }
            Action::Pick(at) => {
                if let Some(vcpu) = &running[at] {
                    queues[at].must_leave(&vcpu.account, *now);
                }
            }
            Action::Weigh(id, weight) => shares[id as usize].set_weight(weight),
            Action::Allow(id, cpus) => affinities[id as usize].store(cpus),
            Action::PutBack(at, yields) => {
                if let Some(vcpu) = running[at].take() {
                    places.insert(vcpu.id, Place::Ready(at));
                    queues[at].put_back(vcpu, yields, *now, board);
                }
            }
            Action::Dismiss(at) => {
                if let Some(mut vcpu) = running[at].take() {
                    queues[at].dismiss(&mut vcpu, *now, board);
                    let to = board.place(NUMBERS[at], vcpu.account.allowed(), 1);
                    self.admit(to.0 as usize, vcpu);
                }
            }
            Action::Sleep(at, time) => {
                if let Some(vcpu) = running[at].take() {
                    let until = time.map(|time| *now + u64::from(time) * MS);
                    places.insert(vcpu.id, Place::Asleep(at, until));
                    queues[at].sleep(vcpu, until, *now, board);
                }
            }
            Action::Wake(id) => {
                for at in 0..2 {
                    let sleeps = matches!(places.get(&id), Some(&Place::Asleep(here, _)) if here == at);
                    match queues[at].wake(id, *now, board) {
                        Woken::NotHere => assert!(!sleeps),
                        Woken::Here { .. } => assert_eq!(places.insert(id, Place::Ready(at)).is_some(), sleeps),
                        Woken::Moves(vcpu, to) => {
                            assert!(sleeps && running[to.0 as usize].is_none() && to != NUMBERS[at]);
                            return self.admit(to.0 as usize, vcpu);
                        }
                    }
                }
            }
            Action::Pass(time) => {
                *now += u64::from(time) * MS;
                let mut woken = Vec::new();
                queues.iter_mut().for_each(|queue| queue.expire(*now, board, |vcpu| woken.push(vcpu.id)));
                for (id, place) in places {
                    if let Place::Asleep(at, Some(until)) = *place {
                        assert_eq!(woken.contains(id), until <= *now);
                        if until <= *now {
                            *place = Place::Ready(at);
                        }
                    }
                }
            }
            Action::Steal(thief) => {
                let Some((victim, limit)) = queues[thief].victim(*now, board) else { return };
                let victim = victim.0 as usize;
                assert_ne!(victim, thief);
                if let Some(vcpu) = queues[victim].give(NUMBERS[thief], limit, *now, board) {
                    assert_eq!(places.get(&vcpu.id), Some(&Place::Ready(victim)));
                    self.admit(thief, vcpu);
                }
            }
            Action::Remove(id) => {
                for (at, queue) in queues.iter_mut().enumerate() {
                    let is_here = matches!(places.get(&id),
                        Some(&(Place::Ready(here) | Place::Asleep(here, _))) if here == at);
                    let removed = queue.remove(board, |vcpu| vcpu.id == id);
                    assert_eq!(removed.map(|vcpu| vcpu.id), is_here.then_some(id));
                    if is_here {
                        places.remove(&id);
                    }
                }
            }
        }
    }

    fn check(&self) {
        for (at, queue) in self.queues.iter().enumerate() {
            let ready = self.places.values().filter(|&&place| place == Place::Ready(at)).count();
            assert_eq!((queue.ready.len(), queue.has_ready()), (ready, ready > 0));
            assert!(queue.ready.is_sorted_by(|one, next| !one.at.is_before(next.at)));
            assert_eq!(queue.weight, queue.ready.iter().map(|waiting| waiting.weight).sum::<u64>());
            let sleepers = self.places.values().filter_map(|place| match *place {
                Place::Asleep(here, until) if here == at => Some(until),
                _ => None,
            });
            assert_eq!(queue.asleep.len(), sleepers.clone().count());
            assert_eq!(queue.first_deadline, sleepers.flatten().min());
            // With one that runs and one that waits, the slice ends.
            assert!(self.running[at].is_none() || ready == 0 || queue.next_deadline().is_some());
            assert!(queue.ready.capacity() >= VCPUS as usize && queue.asleep.capacity() >= VCPUS as usize);
        }
    }
}

proptest! {
    // However vCPUs run, yield, sleep, wake, move and leave, and whatever becomes of their weights and CPUs meanwhile: each exists exactly once and where it should be, none is woken
    // early, none sleeps on, none is where it may not be.
    #[test]
    fn no_vcpu_is_lost_or_doubled(actions in proptest::collection::vec(action(), 0..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.check();
        }
    }
}
