//! Hints that CPUs publish without a lock: who has vCPUs waiting, how far behind they are, who is idle.
//!
//! A CPU that acts on a hint locks the other CPU's queue and checks again. One case must not be missed: a CPU going idle
//! publishes that first and then looks for waiting vCPUs; a CPU that leaves a vCPU waiting publishes that first and then
//! looks for idle CPUs. The sets of CPUs are sequentially consistent, so at least one of the two sees the other.

use core::sync::atomic::{AtomicU64, Ordering};

use super::MARGIN;
use super::vtime::{VTime, span};
use crate::addr::CpuId;
use crate::mm::flush::{AtomicCpuSet, CpuSet, MAX_CPUS};

/// How often a CPU that runs one vCPU and has none waiting is asked to help others at most, in nanoseconds.
const HELP_INTERVAL: u64 = 1_000_000;

/// The hints of all CPUs.
pub struct Board {
    posts: [Post; MAX_CPUS],
    /// CPUs at which a vCPU waits.
    waiting: AtomicCpuSet,
    /// CPUs at which a vCPU waits that could run elsewhere.
    crowded: AtomicCpuSet,
    /// CPUs that run a vCPU and have none waiting.
    alone: AtomicCpuSet,
    /// CPUs that run nothing.
    idle: AtomicCpuSet,
    /// CPUs that belong to the vCPUs pinned there: nothing is moved to them or away.
    dedicated: AtomicCpuSet,
    /// Virtual time of the machine: where the vCPUs are that wait.
    front: AtomicU64,
}

/// What a CPU tells of itself by sets.
#[derive(Clone, Copy)]
pub(super) struct Posted {
    pub waiting: bool,
    pub crowded: bool,
    pub alone: bool,
}

/// The hints of one CPU, in a cache line of their own.
#[repr(align(64))]
struct Post {
    /// Virtual time of the first waiting vCPU that could run elsewhere.
    head: AtomicU64,
    /// Where it could run.
    allowed: AtomicCpuSet,
    /// Weight of all that run or wait there.
    weight: AtomicU64,
    /// If it runs a vCPU alone: since when, its virtual time then, and its weight.
    alone_since: AtomicU64,
    alone_at: AtomicU64,
    alone_weight: AtomicU64,
    /// When the CPU was last asked to help.
    asked: AtomicU64,
}

impl Board {
    /// No CPU has said anything.
    pub const fn new() -> Board {
        Board {
            posts: [const { Post::new() }; MAX_CPUS],
            waiting: AtomicCpuSet::new(),
            crowded: AtomicCpuSet::new(),
            alone: AtomicCpuSet::new(),
            idle: AtomicCpuSet::new(),
            dedicated: AtomicCpuSet::new(),
            front: AtomicU64::new(0),
        }
    }

    /// Gives CPUs to the vCPUs that are pinned there.
    pub fn dedicate(&self, cpus: CpuSet) {
        cpus.iter().for_each(|cpu| self.dedicated.insert(cpu));
    }

    /// CPUs that belong to the vCPUs pinned there.
    pub fn dedicated(&self) -> CpuSet {
        self.dedicated.load()
    }

    /// Does a vCPU wait for `cpu`?
    #[inline]
    pub fn has_waiting(&self, cpu: CpuId) -> bool {
        self.waiting.load().contains(cpu)
    }

    /// Has `cpu` something to run? A dedicated CPU may have and say no.
    pub fn is_busy(&self, cpu: CpuId) -> bool {
        self.has_waiting(cpu) || self.alone.load().contains(cpu)
    }

    /// Does a vCPU wait somewhere that could run elsewhere?
    pub(super) fn is_crowded(&self) -> bool {
        !self.crowded.load().is_empty()
    }

    /// Virtual time of the machine.
    pub(super) fn front(&self) -> VTime {
        VTime(self.front.load(Ordering::Relaxed))
    }

    /// Virtual time of the vCPU that waits first at `cpu` among those that could run elsewhere, and where; and the weight of
    /// all that run or wait there.
    pub(super) fn set_head(&self, cpu: CpuId, time: VTime, allowed: CpuSet, weight: u64) {
        if let Some(post) = self.posts.get(cpu.0 as usize) {
            post.weight.store(weight, Ordering::Relaxed);
            post.head.store(time.0, Ordering::Relaxed);
            post.allowed.store(allowed);
        }
    }

    /// `cpu` has run one vCPU since a time, from a virtual time on, at a weight, and has none waiting.
    pub(super) fn set_lonely(&self, cpu: CpuId, since: u64, at: VTime, weight: u64) {
        if let Some(post) = self.posts.get(cpu.0 as usize) {
            post.alone_since.store(since, Ordering::Relaxed);
            post.alone_at.store(at.0, Ordering::Relaxed);
            post.alone_weight.store(weight, Ordering::Relaxed);
        }
    }

    /// Tells what is the case at `cpu`, as far as it has changed: the sets are in everybody's cache.
    pub(super) fn change(&self, cpu: CpuId, before: Posted, now: Posted) {
        let set = |set: &AtomicCpuSet, before, now| match (before, now) {
            (false, true) => set.insert(cpu),
            (true, false) => set.remove(cpu),
            _ => {}
        };
        set(&self.waiting, before.waiting, now.waiting);
        set(&self.crowded, before.crowded, now.crowded);
        set(&self.alone, before.alone, now.alone);
    }

    /// `cpu` runs nothing, or something.
    pub(super) fn set_idle(&self, cpu: CpuId, idle: bool) {
        if idle { self.idle.insert(cpu) } else { self.idle.remove(cpu) }
    }

    /// An idle CPU among `allowed`, which isn't idle any more for others that ask.
    pub fn take_idle(&self, allowed: CpuSet) -> Option<CpuId> {
        self.idle.load().intersection(allowed).iter().find(|&cpu| self.idle.take(cpu))
    }

    /// The CPU for a vCPU that comes from no queue, had `at`, and may use `allowed`: the same, or an idle one if that is busy.
    /// If it may not use `at` and none is idle, number `turn` of those that it may use, which are dealt out like this.
    pub fn place(&self, at: CpuId, allowed: CpuSet, turn: usize) -> CpuId {
        let stays = allowed.contains(at);
        if stays && !self.is_busy(at) {
            return at;
        }
        self.take_idle(allowed).unwrap_or(if stays { at } else { allowed.cycle(turn) })
    }

    /// A CPU that should come and look whether it takes the vCPU that `cpu` has waiting: an idle one, or of those that run
    /// a vCPU alone the one that is furthest ahead, if that is [`MARGIN`].
    pub(super) fn helper(&self, cpu: CpuId, now: u64) -> Option<CpuId> {
        if !self.crowded.load().contains(cpu) {
            return None;
        }
        let post = self.posts.get(cpu.0 as usize)?;
        let (head, allowed) = (VTime(post.head.load(Ordering::Relaxed)), post.allowed.load());
        if let Some(idle) = self.take_idle(allowed) {
            return Some(idle);
        }
        let margin = span(MARGIN, post.weight.load(Ordering::Relaxed));
        let alone = self.alone.load().intersection(allowed).iter();
        let ahead = alone.filter_map(|cpu| Some((self.posts.get(cpu.0 as usize)?.ahead_of(head, now), cpu)));
        let (_, helper) = ahead.filter(|(ahead, _)| *ahead > margin).max_by_key(|(ahead, _)| *ahead)?;
        let asked = &self.posts.get(helper.0 as usize)?.asked;
        let due = |before: u64| (now.saturating_sub(before) >= HELP_INTERVAL).then_some(now);
        asked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok().then_some(helper)
    }

    /// The CPU whose waiting vCPU is the furthest behind of those that `thief` should take, and the time before which one must
    /// be to be taken. If the thief has vCPUs of its own, the furthest behind at a virtual time and all of a weight, those
    /// must be [`MARGIN`] ahead, and no more than they are at the other CPU: else many thieves would make one CPU empty.
    /// Moves the machine's virtual time on.
    pub(super) fn victim(&self, thief: CpuId, own: Option<(VTime, u64)>) -> Option<(CpuId, Option<VTime>)> {
        let mut least: Option<VTime> = None;
        let mut victim: Option<(CpuId, VTime, Option<VTime>)> = None;
        for cpu in self.crowded.load().iter() {
            let Some(post) = self.posts.get(cpu.0 as usize) else { continue };
            let head = VTime(post.head.load(Ordering::Relaxed));
            least = Some(least.map_or(head, |least| least.earlier(head)));
            let weight = post.weight.load(Ordering::Relaxed);
            let limit = own.map(|(time, _)| time.minus(span(MARGIN, weight)));
            if cpu != thief
                && post.allowed.load().contains(thief)
                && own.is_none_or(|(_, own)| own <= weight)
                && limit.is_none_or(|limit| head.is_before(limit))
                && victim.is_none_or(|(_, best, _)| head.is_before(best))
            {
                victim = Some((cpu, head, limit));
            }
        }
        if let Some(least) = least {
            self.advance(least);
        }
        victim.map(|(cpu, _, limit)| (cpu, limit))
    }

    fn advance(&self, to: VTime) {
        let _ = self
            .front
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |front| VTime(front).is_before(to).then_some(to.0));
    }
}

impl Post {
    const fn new() -> Post {
        Post {
            head: AtomicU64::new(0),
            allowed: AtomicCpuSet::new(),
            weight: AtomicU64::new(0),
            alone_since: AtomicU64::new(0),
            alone_at: AtomicU64::new(0),
            alone_weight: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    /// How far the vCPU that runs there alone is ahead of `time`.
    fn ahead_of(&self, time: VTime, now: u64) -> u64 {
        let ran = now.saturating_sub(self.alone_since.load(Ordering::Relaxed));
        let passed = span(ran, self.alone_weight.load(Ordering::Relaxed));
        VTime(self.alone_at.load(Ordering::Relaxed)).plus(passed).since(time)
    }
}

impl Default for Board {
    fn default() -> Board {
        Board::new()
    }
}
