//! The CMOS real-time clock's registers as a point in time.

/// One consistent reading of the registers of an MC146818 or its descendants, uninterpreted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RtcReading {
    /// Register 0
    pub second: u8,
    /// Register 2
    pub minute: u8,
    /// Register 4; the top bit is p.m. in 12-hour mode.
    pub hour: u8,
    /// Register 7
    pub day: u8,
    /// Register 8
    pub month: u8,
    /// Register 9: the last two digits.
    pub year: u8,
    /// The first two digits of the year, where ACPI's FADT names a register for them.
    pub century: Option<u8>,
    /// Status register B: bit 2 set for binary numbers (else BCD), bit 1 for 24-hour mode.
    pub status_b: u8,
}

const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const PM: u8 = 1 << 7;

impl RtcReading {
    /// Seconds since 1970-01-01 00:00 UTC, taking the clock to run in UTC. `None` if the registers hold no date.
    pub fn unix_seconds(&self) -> Option<u64> {
        let second = self.number(self.second)?;
        let minute = self.number(self.minute)?;
        let hour = self.hour()?;
        let day = self.number(self.day)?;
        let month = self.number(self.month)?;
        let two_digits = self.number(self.year).filter(|year| *year < 100)?;
        let century = match self.century {
            Some(register) => self.number(register).filter(|century| (19..=99).contains(century)),
            None => None,
        };
        // Without a century register: 1970 to 2069.
        let century = century.unwrap_or(if two_digits < 70 { 20 } else { 19 });
        let year = century * 100 + two_digits;
        if second > 60 || minute > 59 || hour > 23 || year < 1970 || day == 0 || day > days_in(year, month)? {
            return None;
        }
        Some(((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second)
    }

    fn number(&self, register: u8) -> Option<u64> {
        if self.status_b & BINARY != 0 {
            return Some(register.into());
        }
        let (tens, ones) = (register >> 4, register & 0xf);
        (tens < 10 && ones < 10).then_some(u64::from(tens * 10 + ones))
    }

    fn hour(&self) -> Option<u64> {
        if self.status_b & HOURS_24 != 0 {
            return self.number(self.hour);
        }
        let hour = self.number(self.hour & !PM).filter(|hour| (1..=12).contains(hour))?;
        Some(hour % 12 + if self.hour & PM != 0 { 12 } else { 0 })
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

/// Days from 1970-01-01 to the first of `month` of `year`, which is at least 1970.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    years + (1..month).filter_map(|month| days_in(year, month)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bcd(value: u64) -> u8 {
        u8::try_from(value / 10 * 16 + value % 10).unwrap()
    }

    #[test]
    fn known_dates() {
        let mut reading = RtcReading {
            second: 0x46,
            minute: 0x17,
            hour: 0x14,
            day: 0x29,
            month: 0x02,
            year: 0x24,
            century: Some(0x20),
            status_b: HOURS_24,
        };
        assert_eq!(reading.unix_seconds(), Some(1_709_216_266));
        reading.century = None;
        assert_eq!(reading.unix_seconds(), Some(1_709_216_266));
        reading.century = Some(0);
        assert_eq!(reading.unix_seconds(), Some(1_709_216_266), "a century register that was never set");
        (reading.status_b, reading.hour) = (0, 0x82);
        assert_eq!(reading.unix_seconds(), Some(1_709_216_266), "2 p.m.");
        reading.hour = 0x12;
        assert_eq!(reading.unix_seconds(), Some(1_709_216_266 - 14 * 3600), "12 a.m. is midnight");
        reading.year = 0x23;
        assert_eq!(reading.unix_seconds(), None, "no such day");
    }

    #[test]
    fn garbage_is_no_date() {
        let all_ones = RtcReading { status_b: 0xff, ..RtcReading::default() };
        assert_eq!(all_ones.unix_seconds(), None);
        let broken =
            RtcReading { second: 0xff, minute: 0xff, hour: 0xff, day: 0xff, month: 0xff, year: 0xff, ..all_ones };
        assert_eq!(broken.unix_seconds(), None);
    }

    proptest! {
        /// Counting days one by one gives the same.
        #[test]
        fn agrees_with_a_walk_through_the_calendar(days in 0u64..49_000, in_day in 0u64..86_400) {
            let (mut year, mut month, mut day) = (1970, 1, 1);
            for _ in 0..days {
                day += 1;
                if day > days_in(year, month).unwrap() {
                    (day, month) = (1, month + 1);
                }
                if month > 12 {
                    (month, year) = (1, year + 1);
                }
            }
            let reading = RtcReading {
                second: bcd(in_day % 60),
                minute: bcd(in_day / 60 % 60),
                hour: bcd(in_day / 3600),
                day: bcd(day),
                month: bcd(month),
                year: bcd(year % 100),
                century: Some(bcd(year / 100)),
                status_b: HOURS_24,
            };
            prop_assert_eq!(reading.unix_seconds(), Some(days * 86_400 + in_day));
        }

        #[test]
        fn never_panics(second: u8, minute: u8, hour: u8, day: u8, month: u8, year: u8, century: Option<u8>, status_b: u8) {
            let _ = RtcReading { second, minute, hour, day, month, year, century, status_b }.unix_seconds();
        }
    }
}
