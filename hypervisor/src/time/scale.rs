//! Ratios of two frequencies as a multiplication and a shift.

/// Multiplies by a ratio: `(value * mul) >> shift`, with the ratio rounded up.
///
/// `mul` has its top bit set, so the ratio is right to one part in 2^63: over a century of nanoseconds, less than one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    mul: u64,
    shift: u32,
}

impl Scale {
    /// The ratio `to / from`. `None` when it is zero, not a number, 2^64 or more, or below 2^-32.
    pub const fn new(from: u64, to: u64) -> Option<Scale> {
        if from == 0 || to == 0 {
            return None;
        }
        // With this shift the quotient lies in 2^63 ..= 2^64; where it is above, one less does.
        let shift = 63 + from.ilog2() as i32 - to.ilog2() as i32 + 1;
        let mut shift = if shift >= 0 && shift < 96 { shift as u32 } else { return None };
        let mut mul = Self::quotient(to, shift, from);
        if mul > u64::MAX as u128 {
            if shift == 0 {
                return None;
            }
            shift -= 1;
            mul = Self::quotient(to, shift, from);
        }
        // One value is left that does not fit: a ratio that rounds up to exactly 2^64.
        if mul > u64::MAX as u128 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "compared with u64::MAX just above")]
        Some(Scale { mul: mul as u64, shift })
    }

    /// `(to << shift) / from`, rounded up, without overflow: `to` may have 64 bits and `shift` up to 95.
    const fn quotient(to: u64, shift: u32, from: u64) -> u128 {
        let from = from as u128;
        // First as many bits as fit, then the rest by long division on the remainder.
        let first = if shift < 64 { shift } else { 64 };
        let value = (to as u128) << first;
        let (mut quotient, mut remainder) = (value / from, value % from);
        let mut left = shift - first;
        while left > 0 {
            remainder <<= 1;
            quotient = quotient << 1 | (remainder / from);
            remainder %= from;
            left -= 1;
        }
        if remainder == 0 { quotient } else { quotient + 1 }
    }

    /// `value` times the ratio, rounded down, at most `u64::MAX`.
    #[inline]
    pub const fn apply(self, value: u64) -> u64 {
        let product = (value as u128 * self.mul as u128) >> self.shift;
        #[expect(clippy::cast_possible_truncation, reason = "compared with u64::MAX")]
        if product > u64::MAX as u128 { u64::MAX } else { product as u64 }
    }
}

/// The ratio of nanoseconds to TSC ticks in the guest ABI's form: `((ticks << shift) * mul) >> 32`, where a negative
/// shift goes right. `vcpu_time_info` in `xen/xen.h`.
///
/// Rounded down, so a guest's clock never runs ahead of ours: when its record is renewed, time never steps back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestScale {
    /// `tsc_to_system_mul`
    pub mul: u32,
    /// `tsc_shift`
    pub shift: i8,
}

impl GuestScale {
    /// The scale for a TSC of `hz` ticks per second. `None` below 1 Hz.
    pub const fn new(hz: u64) -> Option<GuestScale> {
        if hz == 0 {
            return None;
        }
        // Find `shift` with 2^31 <= mul < 2^32, that is 1/2 <= ratio / 2^shift < 1.
        let mut shift = 0i8;
        let second = super::SECOND as u128;
        let hz = hz as u128;
        // ratio / 2^shift >= 1
        while second >= up(hz, shift) {
            shift += 1;
        }
        // ratio / 2^shift < 1/2
        while up(second, -shift) * 2 < hz {
            shift -= 1;
        }
        let mul = if shift >= 0 { (second << 32) / (hz << shift) } else { (second << (32 - shift)) / hz };
        #[expect(clippy::cast_possible_truncation, reason = "the ratio is below 1, so mul is below 2^32")]
        Some(GuestScale { mul: mul as u32, shift })
    }

    /// What a guest computes.
    pub const fn apply(self, ticks: u64) -> u64 {
        let ticks = if self.shift < 0 { ticks >> -self.shift } else { ticks << self.shift };
        #[expect(clippy::cast_possible_truncation, reason = "96 bits shifted right by 32")]
        {
            ((ticks as u128 * self.mul as u128) >> 32) as u64
        }
    }
}

/// `value * 2^shift` for a shift that is not negative, else `value`.
const fn up(value: u128, shift: i8) -> u128 {
    if shift > 0 { value << shift } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SECOND;
    use super::*;

    /// 1 MHz to 16 GHz.
    fn hz() -> impl Strategy<Value = u64> {
        prop_oneof![1_000_000u64..16_000_000_000, Just(SECOND), Just(1 << 30), Just(3_579_545)]
    }

    proptest! {
        #[test]
        fn scale_is_right_to_one_part_in_two_to_the_63(hz in hz(), ns in 0u64..100 * 366 * 86400 * SECOND) {
            let exact = u128::from(ns) * u128::from(hz) / u128::from(SECOND);
            let scale = Scale::new(SECOND, hz).unwrap();
            prop_assume!(exact < u128::from(u64::MAX));
            let got = u128::from(scale.apply(ns));
            prop_assert!((exact..=exact + 1 + (exact >> 63)).contains(&got), "{got} for {exact}");
        }

        #[test]
        fn scale_keeps_the_top_bit(from in 1u64.., to in 1u64..) {
            if let Some(scale) = Scale::new(from, to) {
                prop_assert!(scale.mul >= 1 << 63);
            }
        }

        #[test]
        fn guest_scale_is_normal_and_never_fast(hz in hz(), ticks in 0u64..1 << 45) {
            let scale = GuestScale::new(hz).unwrap();
            prop_assert!(scale.mul >= 1 << 31);
            let exact = u128::from(ticks) * u128::from(SECOND) / u128::from(hz);
            let got = u128::from(scale.apply(ticks));
            prop_assert!(got <= exact);
            // One part in 2^31 for the rounded factor, and the ticks that a right shift drops.
            let dropped = (16 * u128::from(SECOND)).div_ceil(u128::from(hz));
            prop_assert!(exact - got <= (exact >> 31) + dropped + 1, "{} {}", exact, got);
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(GuestScale::new(SECOND), Some(GuestScale { mul: 1 << 31, shift: 1 }));
        assert_eq!(GuestScale::new(2 * SECOND), Some(GuestScale { mul: 1 << 31, shift: 0 }));
        assert_eq!(Scale::new(SECOND, SECOND).unwrap().apply(12345), 12345);
        assert_eq!(Scale::new(0, 1), None);
        assert_eq!(Scale::new(1, 0), None);
        assert_eq!(GuestScale::new(0), None);
    }
}
