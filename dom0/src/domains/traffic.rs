//! What went through a domain's devices. Pure.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::ops::{Add, Sub};

/// Bytes, since the domain was created or between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Read from its disks.
    pub read: u64,
    /// Written to its disks.
    pub written: u64,
    /// Received by its network devices.
    pub received: u64,
    /// Sent by its network devices.
    pub sent: u64,
}

impl Traffic {
    fn each(self, other: Traffic, f: impl Fn(u64, u64) -> u64) -> Traffic {
        Traffic {
            read: f(self.read, other.read),
            written: f(self.written, other.written),
            received: f(self.received, other.received),
            sent: f(self.sent, other.sent),
        }
    }
}

impl Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        self.each(other, u64::wrapping_add)
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    /// What came since `earlier`; nothing of a kind whose count began anew.
    fn sub(self, earlier: Traffic) -> Traffic {
        self.each(earlier, u64::saturating_sub)
    }
}

/// So many bytes in so many nanoseconds, as KiB or MiB per second, rounded up.
#[derive(Clone, Copy, Debug)]
pub struct PerSecond(pub u64, pub u64);

impl fmt::Display for PerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes, span) = *self;
        let kib = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(span.max(1)) << 10);
        let text = match kib {
            0 => String::from("0"),
            1..1000 => format!("{kib} K/s"),
            _ => {
                let tenths = (kib * 10).div_ceil(1 << 10);
                format!("{}.{} M/s", tenths / 10, tenths % 10)
            }
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_that_fits() {
        let second = 1_000_000_000;
        let shown = |bytes: u64, span| format!("{:>8}", PerSecond(bytes, span));
        assert_eq!(shown(0, second), "       0");
        assert_eq!(shown(1, second), "   1 K/s");
        assert_eq!(shown(999 << 10, second), " 999 K/s");
        assert_eq!(shown(3 << 20, 2 * second), " 1.5 M/s");
        assert_eq!(shown(999 << 20, second), "999.0 M/s");
        assert_eq!(shown(1 << 20, 0), "1000000000.0 M/s");
        assert!(shown(u64::MAX, 1).ends_with(" M/s"));
    }

    #[test]
    fn what_came_since_a_look() {
        let earlier = Traffic { read: 1, written: 20, received: 3, sent: 4 };
        let more = Traffic { read: 10, written: 5, received: 0, sent: 1 };
        assert_eq!(earlier + more - earlier, more);
        assert_eq!((Traffic::default() - earlier), Traffic::default());
    }
}
