//! Which CPUs may hold a stale translation: the clock that lets TLB flushes wait until a frame is used again.
//!
//! Taking a mapping away from a guest does not flush anything. It stamps the frame with the time, and the time only
//! moves when some CPU flushes *everything*, global entries included. When the frame is about to become something for
//! which a stale translation would be fatal (another type, another domain's), the CPUs that have not flushed since
//! the stamp are flushed first. Mostly there are none left.
//!
//! Why that is sound. A CPU flushes in three steps: it takes a ticket (which moves the clock), flushes, and posts the
//! ticket. A mapping is taken away in three steps: the entry is cleared, the clock is read, the frame is stamped. If
//! a posted ticket is later than a frame's stamp, the ticket was taken after that clock read, so the flush came after
//! the entry was cleared, and nothing could load the translation again. If it is not later, the CPU is flushed.
//!
//! On a CPU with a shadow root ([`super::shadow`]) a flush is over for the rules when it is posted, and the shadow is copied
//! again before the CPU next runs a guest: in between, the CPU doesn't use it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::CpuId;

/// CPUs the hypervisor can use.
pub const MAX_CPUS: usize = 64;

/// A set of physical CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CpuSet(u64);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: CpuSet = CpuSet(0);

    /// The first `count` CPUs.
    pub const fn first(count: u32) -> CpuSet {
        if count >= u64::BITS { CpuSet(u64::MAX) } else { CpuSet((1 << count) - 1) }
    }

    /// The CPUs whose bits are set.
    pub const fn from_bits(bits: u64) -> CpuSet {
        CpuSet(bits)
    }

    /// A bit for each CPU.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Number `turn` of its CPUs, counted round and round; CPU 0 of the empty set.
    pub fn cycle(self, turn: usize) -> CpuId {
        let count = self.0.count_ones().max(1) as usize;
        self.iter().nth(turn % count).unwrap_or(CpuId(0))
    }

    /// Just this CPU; the empty set for a number from [`MAX_CPUS`] up.
    pub const fn only(cpu: CpuId) -> CpuSet {
        CpuSet(if cpu.0 < u64::BITS { 1 << cpu.0 } else { 0 })
    }

    /// Whether no CPU is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `cpu` is in it.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & CpuSet::only(cpu).0 != 0
    }

    /// CPUs in either.
    #[must_use]
    pub const fn union(self, other: CpuSet) -> CpuSet {
        CpuSet(self.0 | other.0)
    }

    /// CPUs in both.
    #[must_use]
    pub const fn intersection(self, other: CpuSet) -> CpuSet {
        CpuSet(self.0 & other.0)
    }

    /// CPUs in `self` and not in `other`.
    #[must_use]
    pub const fn difference(self, other: CpuSet) -> CpuSet {
        CpuSet(self.0 & !other.0)
    }

    /// The CPUs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let cpu = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (cpu < u64::BITS).then_some(CpuId(cpu))
        })
    }
}

/// A set of CPUs that all CPUs may change: for instance those that may hold a domain's translations.
#[derive(Default, Debug)]
pub struct AtomicCpuSet(AtomicU64);

impl AtomicCpuSet {
    /// The empty set.
    pub const fn new() -> AtomicCpuSet {
        AtomicCpuSet(AtomicU64::new(0))
    }

    /// A set.
    pub const fn of(set: CpuSet) -> AtomicCpuSet {
        AtomicCpuSet(AtomicU64::new(set.0))
    }

    /// The set as it is now.
    pub fn load(&self) -> CpuSet {
        CpuSet(self.0.load(Ordering::SeqCst))
    }

    /// Puts `cpu` in. A CPU does this *before* it loads a page table of the domain.
    pub fn insert(&self, cpu: CpuId) {
        self.0.fetch_or(CpuSet::only(cpu).0, Ordering::SeqCst);
    }

    /// Makes it `set`.
    pub fn store(&self, set: CpuSet) {
        self.0.store(set.0, Ordering::SeqCst);
    }

    /// Takes `cpu` out; whether it was in. Of several that ask for the same CPU, one gets it.
    pub fn take(&self, cpu: CpuId) -> bool {
        let only = CpuSet::only(cpu).0;
        self.0.fetch_and(!only, Ordering::SeqCst) & only != 0
    }

    /// Takes `cpu` out. A CPU does this only *after* a full flush with the domain's tables no longer loaded.
    pub fn remove(&self, cpu: CpuId) {
        self.0.fetch_and(!CpuSet::only(cpu).0, Ordering::SeqCst);
    }
}

/// A moment on the [`FlushClock`]; 48 bits, so it never wraps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp(pub(super) u64);

impl Stamp {
    /// Before any guest ran: no CPU can hold a translation from then.
    pub const NEVER: Stamp = Stamp(0);
}

/// Counts full TLB flushes of all CPUs and remembers each CPU's last one.
#[derive(Debug)]
pub struct FlushClock {
    now: AtomicU64,
    last: [AtomicU64; MAX_CPUS],
}

/// A full flush that has begun on one CPU; see [`FlushClock::begin`].
#[derive(Debug)]
#[must_use = "post the ticket with `FlushClock::done` after flushing"]
pub struct FlushTicket(u64);

impl FlushClock {
    /// A clock at its first moment.
    pub const fn new() -> FlushClock {
        FlushClock { now: AtomicU64::new(1), last: [const { AtomicU64::new(0) }; MAX_CPUS] }
    }

    /// The time to stamp a frame with, read after its entry was cleared.
    pub fn now(&self) -> Stamp {
        Stamp(self.now.load(Ordering::SeqCst))
    }

    /// To be called right before this CPU drops *all* translations, global ones and paging-structure caches included.
    pub fn begin(&self) -> FlushTicket {
        FlushTicket(self.now.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// To be called by the same CPU once the flush has happened.
    pub fn done(&self, cpu: CpuId, ticket: FlushTicket) {
        if let Some(last) = self.last.get(cpu.0 as usize) {
            last.store(ticket.0, Ordering::SeqCst);
        }
    }

    /// When a CPU has flushed last; [`Stamp::NEVER`] if it hasn't yet.
    pub fn latest(&self, cpu: CpuId) -> Stamp {
        self.last.get(cpu.0 as usize).map_or(Stamp::NEVER, |last| Stamp(last.load(Ordering::SeqCst)))
    }

    /// Those of `candidates` that may still hold a translation that was taken away at `stamp` or before.
    pub fn stale(&self, stamp: Stamp, candidates: CpuSet) -> CpuSet {
        if stamp == Stamp::NEVER {
            return CpuSet::EMPTY;
        }
        let flushed_since =
            |cpu: &CpuId| self.last.get(cpu.0 as usize).is_some_and(|last| last.load(Ordering::SeqCst) > stamp.0);
        candidates.iter().filter(|cpu| !flushed_since(cpu)).fold(CpuSet::EMPTY, |set, cpu| set.union(CpuSet::only(cpu)))
    }
}

impl Default for FlushClock {
    fn default() -> FlushClock {
        FlushClock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_that_began_after_the_stamp_counts() {
        let clock = FlushClock::new();
        let all = CpuSet::first(2);
        let early = clock.begin();
        let stamp = clock.now();
        clock.done(CpuId(0), early);
        assert_eq!(clock.stale(stamp, all), all);
        let late = clock.begin();
        clock.done(CpuId(0), late);
        assert_eq!(clock.stale(stamp, all), CpuSet::only(CpuId(1)));
        assert_eq!(clock.stale(stamp, CpuSet::EMPTY), CpuSet::EMPTY);
        assert_eq!(clock.stale(Stamp::NEVER, all), CpuSet::EMPTY);
    }

    #[test]
    fn sets_list_their_members_in_order() {
        let set = CpuSet::only(CpuId(63)).union(CpuSet::first(2));
        assert!(set.iter().eq([CpuId(0), CpuId(1), CpuId(63)]));
        assert_eq!(CpuSet::first(64).iter().count(), MAX_CPUS);
        assert!(CpuSet::only(CpuId(64)).is_empty());
        assert_eq!(set, CpuSet::from_bits(1 << 63 | 0b11));
        assert_eq!([0, 2, 4].map(|turn| set.cycle(turn)), [CpuId(0), CpuId(63), CpuId(1)]);
        assert_eq!(CpuSet::EMPTY.cycle(3), CpuId(0));
        assert_eq!(set.difference(CpuSet::first(1)), CpuSet::only(CpuId(63)).union(CpuSet::only(CpuId(1))));
    }
}
