//! Virtual time: how much CPU time a vCPU has had, divided by its weight.

/// Weight units of a domain of weight 1 with one vCPU that wants to run. Fine enough to share a weight of 1 among 32.
pub const UNIT: u64 = 1024;

/// The weight at which virtual time passes as fast as real time: Xen's default weight, undivided.
const EVEN: u64 = 256 * UNIT;

/// A moment in virtual time. It wraps, so that no weight is so small that a vCPU comes to its end: two moments are
/// compared by the shorter way between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VTime(pub(super) u64);

/// The virtual time that passes in `ns` nanoseconds at `weight`, or on a CPU whose vCPUs weigh that much together.
pub fn span(ns: u64, weight: u64) -> u64 {
    let span = u128::from(ns) * u128::from(EVEN) / u128::from(weight.max(1));
    u64::try_from(span).unwrap_or(u64::MAX).min(u64::MAX >> 2)
}

/// The nanoseconds in which `span` passes at `weight`.
pub fn duration(span: u64, weight: u64) -> u64 {
    u64::try_from(u128::from(span) * u128::from(weight) / u128::from(EVEN)).unwrap_or(u64::MAX)
}

impl VTime {
    /// The moment `span` later.
    #[must_use]
    pub const fn plus(self, span: u64) -> VTime {
        VTime(self.0.wrapping_add(span))
    }

    /// The moment `span` earlier.
    #[must_use]
    pub const fn minus(self, span: u64) -> VTime {
        VTime(self.0.wrapping_sub(span))
    }

    /// Is this before `other`?
    pub const fn is_before(self, other: VTime) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() < 0
    }

    /// How long after `other` this is; 0 if it is before.
    pub const fn since(self, other: VTime) -> u64 {
        if self.is_before(other) { 0 } else { self.0.wrapping_sub(other.0) }
    }

    /// The earlier one.
    #[must_use]
    pub const fn earlier(self, other: VTime) -> VTime {
        if other.is_before(self) { other } else { self }
    }

    /// The later one.
    #[must_use]
    pub const fn later(self, other: VTime) -> VTime {
        if self.is_before(other) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_compare_across_the_wrap() {
        let early = VTime(u64::MAX - 1);
        let late = early.plus(3);
        assert!(early.is_before(late) && !late.is_before(early) && !early.is_before(early));
        assert_eq!((late.since(early), early.since(late)), (3, 0));
        assert_eq!((early.earlier(late), early.later(late)), (early, late));
        assert_eq!(late.minus(3), early);
    }

    #[test]
    fn virtual_time_passes_faster_at_less_weight() {
        assert_eq!(span(1_000, 256 * UNIT), 1_000);
        assert_eq!(span(1_000, 512 * UNIT), 500);
        assert_eq!(duration(span(1_000, 64 * UNIT), 64 * UNIT), 1_000);
        // No time and no weight overflows.
        assert_eq!(span(u64::MAX, 0), u64::MAX >> 2);
        assert_eq!(duration(u64::MAX, u64::MAX), u64::MAX);
    }
}
