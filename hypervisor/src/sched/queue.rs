//! The vCPUs of one CPU that do not run, and which of them runs next.

use alloc::vec::Vec;

use super::account::Account;
use super::board::{Board, Posted};
use super::share::{CAP_PERIOD, next_period};
use super::vtime::{VTime, duration, span};
use super::{BONUS, CROWD, LAG, LEAD, LEAST_RUN, LEAST_SLICE, MOST_SLICE, PATIENCE, ROUND, TURN, WAKE_MARGIN};
use crate::addr::CpuId;
use crate::mm::flush::CpuSet;

/// A vCPU as the scheduler sees it.
pub trait Entity {
    /// What names it.
    type Key: PartialEq + Copy;

    /// Its name.
    fn key(&self) -> Self::Key;

    /// Its account.
    fn account(&self) -> &Account;

    /// The same, to change it.
    fn account_mut(&mut self) -> &mut Account;
}

/// How often a CPU looks at the others' waiting vCPUs, at most, in nanoseconds.
const LOOK_INTERVAL: u64 = 1_000_000;

/// The vCPUs of one CPU that do not run, and what others must know of the one that does.
///
/// What changes the queue tells the [`Board`]. `now` is system time in nanoseconds; it may be a little behind that of the
/// latest call.
pub struct RunQueue<T: Entity> {
    cpu: CpuId,
    /// By virtual time, the first one last.
    ready: Vec<Waiting<T>>,
    /// Weight of all that are ready.
    weight: u64,
    asleep: Vec<Sleeper<T>>,
    /// The earliest deadline of those asleep.
    first_deadline: Option<u64>,
    running: Option<Running>,
    /// What it has told the others.
    posted: Posted,
    /// When it last looked at other CPUs' vCPUs.
    looked: u64,
}

struct Waiting<T> {
    /// Its place in the queue: its virtual time, or later if it yielded.
    at: VTime,
    /// Since when it waits, here or elsewhere.
    since: u64,
    weight: u64,
    entity: T,
}

struct Sleeper<T: Entity> {
    key: T::Key,
    until: Option<u64>,
    /// It waits for a new budget, not for an event.
    spent: bool,
    entity: T,
}

/// The vCPU on the CPU.
struct Running {
    /// When it was put there, and its virtual time then.
    since: u64,
    at: VTime,
    weight: u64,
    /// When it has to give way to those that wait, if they are behind it.
    slice_end: u64,
    /// When the piece of its domain's budget is used up.
    claim_end: Option<u64>,
}

impl Running {
    fn virtual_time(&self, now: u64) -> VTime {
        self.at.plus(span(now.saturating_sub(self.since), self.weight))
    }
}

/// What [`RunQueue::wake`] did.
pub enum Woken<T> {
    /// Nothing: the vCPU doesn't sleep here.
    NotHere,
    /// It is ready here.
    Here {
        /// The CPU must look at its queue.
        kick: bool,
    },
    /// It is to be admitted to the queue of this CPU, which is idle.
    Moves(T, CpuId),
}

impl<T: Entity> RunQueue<T> {
    /// An empty queue.
    pub const fn new(cpu: CpuId) -> Self {
        RunQueue {
            cpu,
            ready: Vec::new(),
            weight: 0,
            asleep: Vec::new(),
            first_deadline: None,
            running: None,
            posted: Posted { waiting: false, crowded: false, alone: false },
            looked: 0,
        }
    }

    /// Makes room for `entities` vCPUs, so that no later call needs memory. Every queue needs room for all vCPUs that may
    /// use its CPU.
    pub fn reserve(&mut self, entities: usize) {
        self.ready.reserve(entities.saturating_sub(self.ready.len()));
        self.asleep.reserve(entities.saturating_sub(self.asleep.len()));
    }

    /// Takes in a vCPU that is new, woken elsewhere, or was taken from another queue. True if the CPU must look at its
    /// queue.
    pub fn admit(&mut self, mut entity: T, now: u64, board: &Board) -> bool {
        let account = entity.account_mut();
        let favour = if account.waits_since.is_some() { LAG } else { BONUS };
        account.want(now);
        let kick = self.join(entity, favour, now, board);
        self.publish(board);
        kick
    }

    /// Makes a sleeper ready, here or on an idle CPU.
    pub fn wake(&mut self, key: T::Key, now: u64, board: &Board) -> Woken<T> {
        let asleep = |sleeper: &Sleeper<T>| !sleeper.spent && sleeper.key == key;
        let Some(index) = self.asleep.iter().position(asleep) else { return Woken::NotHere };
        let mut entity = self.take_sleeper(index);
        if self.running.is_some() || !self.ready.is_empty() {
            let allowed = entity.account().allowed().difference(CpuSet::only(self.cpu));
            if let Some(cpu) = board.take_idle(allowed) {
                return Woken::Moves(entity, cpu);
            }
        }
        entity.account_mut().want(now);
        let kick = self.join(entity, BONUS, now, board);
        self.publish(board);
        Woken::Here { kick }
    }

    /// Makes ready all whose time has come. `woken` is told of each that slept.
    pub fn expire(&mut self, now: u64, board: &Board, mut woken: impl FnMut(&mut T)) {
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
        if !due(self.first_deadline) {
            return;
        }
        while let Some(index) = self.asleep.iter().position(|sleeper| due(sleeper.until)) {
            let slept = !self.asleep[index].spent;
            let mut entity = self.take_sleeper(index);
            if slept {
                woken(&mut entity);
            }
            entity.account_mut().want(now);
            self.join(entity, BONUS, now, board);
        }
        self.publish(board);
    }

    /// Must the running vCPU, whose account this is, give way: to one that is behind it, or because its domain's budget is
    /// used up or is new? If it needn't and its slice is over, a new one begins.
    pub fn must_leave(&mut self, account: &Account, now: u64) -> bool {
        let impatient = self.impatient(now).is_some();
        let slice = self.running.as_ref().map_or(0, |running| self.slice(running.weight));
        let Some(running) = &mut self.running else { return false };
        if account.escapes_cap() || running.claim_end.is_some_and(|end| end <= now) {
            return true;
        }
        if now < running.slice_end {
            return false;
        }
        let time = running.virtual_time(now);
        let Some(head) = self.ready.last() else {
            running.slice_end = u64::MAX;
            return false;
        };
        running.slice_end = now + slice;
        head.at.is_before(time) || impatient
    }

    /// Takes back the vCPU that ran and could go on. If it `yields`, one that waits goes first, however far ahead that is.
    pub fn put_back(&mut self, mut entity: T, yields: bool, now: u64, board: &Board) {
        self.charge(entity.account_mut(), now);
        let account = entity.account_mut();
        account.want(now);
        let weight = account.share().vcpu_weight();
        let all = self.weight + weight;
        // One that ran without competition, or got less than its weight because there are too few of it, neither owes
        // nor is owed more than this.
        let front = board.front();
        let head = self.ready.last().map_or(front, |head| head.at);
        let earliest = front.earlier(head).minus(span(LAG, all));
        let latest = front.later(head).plus(span(LEAD, all));
        account.virtual_time = account.virtual_time.later(earliest).earlier(latest);
        let at = if yields { account.virtual_time.later(head) } else { account.virtual_time };
        self.insert(Waiting { at, since: now, weight, entity });
        self.publish(board);
    }

    /// Takes back the vCPU that ran and sleeps now, until it is woken or `until` has come.
    pub fn sleep(&mut self, mut entity: T, until: Option<u64>, now: u64, board: &Board) {
        self.charge(entity.account_mut(), now);
        entity.account_mut().rest();
        self.lay_down(entity, until, false);
        self.publish(board);
    }

    /// The vCPU that ran may not run any more, and goes elsewhere, or to its end.
    pub fn dismiss(&mut self, entity: &mut T, now: u64, board: &Board) {
        self.charge(entity.account_mut(), now);
        entity.account_mut().rest();
        self.publish(board);
    }

    /// Takes the vCPU that runs now. `None` if there is none: the CPU is idle then, and looks once more at the others' with
    /// [`RunQueue::victim`].
    pub fn pick(&mut self, now: u64, board: &Board) -> Option<T> {
        while !self.ready.is_empty() {
            let impatient = self.impatient(now);
            let index = impatient.unwrap_or(self.ready.len() - 1);
            let Waiting { mut entity, weight, .. } = self.ready.remove(index);
            self.weight -= weight;
            let slice = if impatient.is_some() { LEAST_SLICE } else { self.slice(weight) };
            let account = entity.account_mut();
            let Ok(claimed) = account.share().claim(now, slice) else {
                account.waits_since = None;
                self.lay_down(entity, Some(next_period(now)), true);
                continue;
            };
            account.enter(claimed);
            self.running = Some(Running {
                since: now,
                at: account.virtual_time,
                weight: account.share().vcpu_weight(),
                slice_end: if self.ready.is_empty() { u64::MAX } else { now + slice },
                claim_end: claimed.map(|piece| now + piece),
            });
            board.set_idle(self.cpu, false);
            self.publish(board);
            return Some(entity);
        }
        self.publish(board);
        board.set_idle(self.cpu, true);
        None
    }

    /// The CPU from which this one should take a vCPU that waits there: any if it has nothing to do itself, else one that
    /// is far behind its own. Asks [`RunQueue::give`] of that CPU's queue.
    pub fn victim(&mut self, now: u64, board: &Board) -> Option<(CpuId, Option<VTime>)> {
        if !board.is_crowded() || board.dedicated().contains(self.cpu) {
            return None;
        }
        let own = self.reference(now).map(|time| (time, self.total_weight()));
        if own.is_some() && now.saturating_sub(self.looked) < LOOK_INTERVAL {
            return None;
        }
        self.looked = now;
        board.victim(self.cpu, own)
    }

    /// Gives a waiting vCPU to `thief`: the first that may run there, if it is before `limit`.
    pub fn give(&mut self, thief: CpuId, limit: Option<VTime>, now: u64, board: &Board) -> Option<T> {
        let fits = |waiting: &Waiting<T>| {
            let account = waiting.entity.account();
            account.allowed().contains(thief)
                && limit.is_none_or(|limit| waiting.at.is_before(limit))
                && !account.share().is_spent(now)
        };
        let index = self.ready.iter().rposition(fits)?;
        let waiting = self.ready.remove(index);
        self.weight -= waiting.weight;
        self.publish(board);
        Some(waiting.entity)
    }

    /// Another CPU that should be kicked, to help with what waits here. To be asked whenever one is left waiting.
    pub fn helper(&self, now: u64, board: &Board) -> Option<CpuId> {
        if self.ready.is_empty() { None } else { board.helper(self.cpu, now) }
    }

    /// When this queue next needs attention: a sleeper's deadline, or the end of what the running vCPU may run.
    pub fn next_deadline(&self) -> Option<u64> {
        let running = self.running.as_ref();
        let slice_end = running.map(|running| running.slice_end).filter(|&end| end != u64::MAX);
        let claim_end = running.and_then(|running| running.claim_end);
        [self.first_deadline, slice_end, claim_end].into_iter().flatten().min()
    }

    /// Is a vCPU waiting for the CPU?
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes out one vCPU, ready or asleep, for which `gone` holds; `None` if there is none.
    pub fn remove(&mut self, board: &Board, gone: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(index) = self.ready.iter().position(|waiting| gone(&waiting.entity)) {
            let Waiting { mut entity, weight, .. } = self.ready.remove(index);
            self.weight -= weight;
            entity.account_mut().rest();
            self.publish(board);
            return Some(entity);
        }
        let index = self.asleep.iter().position(|sleeper| gone(&sleeper.entity))?;
        Some(self.take_sleeper(index))
    }

    /// The vCPU that has waited longest of those that have waited too long.
    fn impatient(&self, now: u64) -> Option<usize> {
        let all = self.total_weight();
        let too_long = |waiting: &Waiting<T>| {
            let waited = now.saturating_sub(waiting.since);
            let turn = || waited.saturating_mul(waiting.weight) >= TURN.saturating_mul(all);
            waited >= PATIENCE && (self.ready.len() <= CROWD || turn())
        };
        let waiting = self.ready.iter().enumerate().filter(|(_, waiting)| too_long(waiting));
        waiting.min_by_key(|(_, waiting)| waiting.since).map(|(index, _)| index)
    }

    /// Puts a vCPU among those that are ready, near those that are here: at most `favour` nanoseconds before them, and not
    /// far behind. True if the CPU must look at its queue.
    fn join(&mut self, mut entity: T, favour: u64, now: u64, board: &Board) -> bool {
        let account = entity.account_mut();
        let weight = account.share().vcpu_weight();
        let all = self.total_weight() + weight;
        let here = self.reference(now).unwrap_or(board.front());
        let (earliest, latest) = (here.minus(span(favour, all)), here.plus(span(LEAD, all)));
        let at = account.virtual_time.later(earliest).earlier(latest);
        account.virtual_time = at;
        let since = account.waits_since.unwrap_or(now);
        self.insert(Waiting { at, since, weight, entity });
        let slice = self.running.as_ref().map_or(0, |running| self.slice(running.weight));
        let Some(running) = &mut self.running else { return true };
        let time = running.virtual_time(now);
        let end = if at.plus(span(WAKE_MARGIN, all)).is_before(time) {
            now.max(running.since + LEAST_RUN)
        } else {
            // It catches up if it is behind, and then has a slice.
            now + slice.max(duration(at.since(time), running.weight).min(MOST_SLICE))
        };
        let sooner = end < running.slice_end;
        running.slice_end = running.slice_end.min(end);
        sooner
    }

    fn insert(&mut self, waiting: Waiting<T>) {
        self.weight += waiting.weight;
        // Behind those at the same time.
        let index = self.ready.partition_point(|other| waiting.at.is_before(other.at));
        self.ready.insert(index, waiting);
    }

    fn lay_down(&mut self, entity: T, until: Option<u64>, spent: bool) {
        self.first_deadline = [self.first_deadline, until].into_iter().flatten().min();
        self.asleep.push(Sleeper { key: entity.key(), until, spent, entity });
    }

    fn take_sleeper(&mut self, index: usize) -> T {
        let sleeper = self.asleep.swap_remove(index);
        if sleeper.until.is_some() && sleeper.until == self.first_deadline {
            self.first_deadline = self.asleep.iter().filter_map(|sleeper| sleeper.until).min();
        }
        sleeper.entity
    }

    /// Ends the run of the running vCPU.
    fn charge(&mut self, account: &mut Account, now: u64) {
        let Some(running) = self.running.take() else { return };
        let used = now.saturating_sub(running.since);
        let spent = span(used, account.share().vcpu_weight());
        account.virtual_time = account.virtual_time.plus(spent);
        if let Some(claimed) = account.claimed.take() {
            account.share().settle(now, claimed, used);
        }
    }

    /// Virtual time of this CPU: of the vCPU that is the furthest behind, running or ready.
    fn reference(&self, now: u64) -> Option<VTime> {
        let running = self.running.as_ref().map(|running| running.virtual_time(now));
        let head = self.ready.last().map(|head| head.at);
        match (running, head) {
            (Some(running), Some(head)) => Some(running.earlier(head)),
            (one, other) => one.or(other),
        }
    }

    /// Weight of all that run here or are ready.
    fn total_weight(&self) -> u64 {
        self.weight + self.running.as_ref().map_or(0, |running| running.weight)
    }

    /// How long a vCPU of this weight runs at a time, while those that are ready wait: so that each has its turn in one
    /// [`ROUND`].
    fn slice(&self, weight: u64) -> u64 {
        duration(span(ROUND, self.weight + weight), weight).clamp(LEAST_SLICE, MOST_SLICE)
    }

    /// Tells the other CPUs what has changed.
    fn publish(&mut self, board: &Board) {
        let here = CpuSet::only(self.cpu).union(board.dedicated());
        let movable = self.ready.iter().rev().find_map(|waiting| {
            let allowed = waiting.entity.account().allowed();
            (!allowed.difference(here).is_empty()).then_some((waiting.at, allowed))
        });
        if let Some((time, allowed)) = movable {
            board.set_head(self.cpu, time, allowed, self.total_weight());
        }
        let alone = self.running.as_ref().filter(|_| self.ready.is_empty() && !board.dedicated().contains(self.cpu));
        if let Some(running) = alone {
            board.set_lonely(self.cpu, running.since, running.at, running.weight);
        }
        let before = self.posted;
        self.posted = Posted { waiting: !self.ready.is_empty(), crowded: movable.is_some(), alone: alone.is_some() };
        board.change(self.cpu, before, self.posted);
    }
}

const _: () = assert!(CAP_PERIOD >= MOST_SLICE);

#[cfg(test)]
mod tests;
