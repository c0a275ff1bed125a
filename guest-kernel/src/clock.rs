//! From TSC ticks to nanoseconds, by the fixed-point factors that a Xen hypervisor publishes.
//!
//! The formula is that of `vcpu_time_info` in `xen/xen.h`: shift the ticks, then multiply by a 0.32 fraction.

/// A TSC rate as a multiplier and a binary shift.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Nanoseconds per shifted tick, as a fraction of 2^32. ABI: `tsc_to_system_mul`.
    pub multiplier: u32,
    /// Left shift of the ticks before the multiplication; negative means right. ABI: `tsc_shift`.
    pub shift: i8,
}

impl Scale {
    /// The scale for a TSC of `khz` thousand ticks a second, or `None` for 0.
    ///
    /// The multiplier is normalised to at least 2^31, so that it keeps 31 bits of precision.
    pub fn from_khz(khz: u32) -> Option<Scale> {
        if khz == 0 {
            return None;
        }
        // 10^6 / khz nanoseconds per tick, in 32.32 fixed point.
        let mut factor = (1_000_000u64 << 32) / u64::from(khz);
        let mut shift = 0;
        while factor > u64::from(u32::MAX) {
            factor >>= 1;
            shift += 1;
        }
        while factor < 1 << 31 {
            factor <<= 1;
            shift -= 1;
        }
        Some(Scale { multiplier: u32::try_from(factor).unwrap_or(u32::MAX), shift })
    }

    /// Nanoseconds in `ticks`, modulo 2^64.
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        let distance = u32::from(self.shift.unsigned_abs()).min(63);
        let shifted = if self.shift < 0 { ticks >> distance } else { ticks << distance };
        let product = u128::from(shifted) * u128::from(self.multiplier);
        // At most 96 bits, so the quotient fits.
        u64::try_from(product >> 32).unwrap_or(u64::MAX)
    }
}

/// A running relation between the TSC and the hypervisor's system time (nanoseconds since it started).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The TSC's rate.
    pub scale: Scale,
    /// A TSC reading.
    pub tsc: u64,
    /// The system time at that reading.
    pub system_time: u64,
}

impl Clock {
    /// System time, in nanoseconds, when the TSC reads `now`. Never before [`Clock::system_time`].
    pub fn at(self, now: u64) -> u64 {
        self.system_time.wrapping_add(self.scale.nanoseconds(now.saturating_sub(self.tsc)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_at_any_rate() {
        for khz in [1, 999, 1_000, 100_000, 1_000_000, 1_000_001, 2_399_998, 3_000_000, 5_000_000, u32::MAX] {
            let scale = Scale::from_khz(khz).unwrap();
            let second = scale.nanoseconds(u64::from(khz) * 1000);
            assert!(second.abs_diff(1_000_000_000) <= 4, "{khz} kHz: {second}");
        }
        assert_eq!(Scale::from_khz(0), None);
    }

    #[test]
    fn matches_a_published_scale() {
        // 1 GHz as Xen publishes it: multiplier 2^31, shift 1.
        assert_eq!(Scale::from_khz(1_000_000), Some(Scale { multiplier: 1 << 31, shift: 1 }));
    }

    #[test]
    fn extreme_factors_do_not_panic() {
        for shift in [i8::MIN, -64, 63, 64, i8::MAX] {
            let _ = Scale { multiplier: u32::MAX, shift }.nanoseconds(u64::MAX);
        }
    }

    #[test]
    fn a_clock_does_not_run_backwards() {
        let clock = Clock { scale: Scale::from_khz(1_000_000).unwrap(), tsc: 500, system_time: 1000 };
        assert_eq!(clock.at(500), 1000);
        assert_eq!(clock.at(600), 1100);
        assert_eq!(clock.at(400), 1000);
    }
}
