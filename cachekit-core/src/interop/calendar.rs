//! Dates and times as Python writes and reads them: `isoformat()` out, `fromisoformat()` in.
//!
//! No calendar crate: all that is needed is to check a text, to write it again in Python's one form, and to count
//! microseconds since 1970. Read are the extended forms (`2024-01-15T12:30:00.5+02:00`, any one character between date and
//! time, a trailing `Z`); Python 3.11 also reads basic forms and week dates, which nothing in the family writes: those are
//! refused here.

use std::fmt;
use std::str::FromStr;

use super::error::Malformed;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A day of the Gregorian calendar, in the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A time of day to the microsecond, with or without an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    hour: u8,
    minute: u8,
    second: u8,
    micro: u32,
    /// East of UTC, microseconds, less than a day either way. `None`: naive.
    offset_micros: Option<i64>,
}

/// A date and a time. Without an offset it is naive: it names no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateTime {
    date: Date,
    time: Time,
}

impl Date {
    /// A day, if there is one.
    #[must_use]
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        ((1..=9999).contains(&year) && (1..=days).contains(&day)).then_some(Self { year, month, day })
    }

    /// Days since 1970-01-01.
    fn days(self) -> i64 {
        // Years that begin in March, so that the leap day is the last of its year.
        let (year, month) = (i64::from(self.year), i64::from(self.month));
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    fn from_days(days: i64) -> Option<Self> {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self::new(u16::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?)
    }
}

impl Time {
    /// A time of day, if there is one.
    #[must_use]
    pub fn new(hour: u8, minute: u8, second: u8, micro: u32) -> Option<Self> {
        let there_is = hour < 24 && minute < 60 && second < 60 && i64::from(micro) < MICROS_PER_SECOND;
        there_is.then_some(Self { hour, minute, second, micro, offset_micros: None })
    }

    /// The same time of day in a zone, seconds east of UTC; `None` if that is a day or more.
    #[must_use]
    pub fn with_offset(self, seconds: i32) -> Option<Self> {
        let seconds = i64::from(seconds);
        let offset_micros = Some(seconds * MICROS_PER_SECOND);
        (seconds.abs() < SECONDS_PER_DAY).then_some(Self { offset_micros, ..self })
    }

    /// Whether it has an offset.
    #[must_use]
    pub fn has_zone(self) -> bool {
        self.offset_micros.is_some()
    }

    fn micros(self) -> i64 {
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        seconds * MICROS_PER_SECOND + i64::from(self.micro)
    }
}

impl DateTime {
    /// Puts the two together.
    #[must_use]
    pub const fn new(date: Date, time: Time) -> Self {
        Self { date, time }
    }

    /// A moment, in UTC; `None` outside the years 1 to 9999.
    #[must_use]
    pub fn from_unix_micros(micros: i64) -> Option<Self> {
        let day = SECONDS_PER_DAY * MICROS_PER_SECOND;
        let (date, of_day) = (Date::from_days(micros.div_euclid(day))?, micros.rem_euclid(day));
        let seconds = of_day / MICROS_PER_SECOND;
        let time = Time {
            hour: (seconds / 3600) as u8,
            minute: (seconds / 60 % 60) as u8,
            second: (seconds % 60) as u8,
            micro: (of_day % MICROS_PER_SECOND) as u32,
            offset_micros: Some(0),
        };
        Some(Self { date, time })
    }

    /// Microseconds since 1970 in UTC; `None` if it is naive.
    #[must_use]
    pub fn unix_micros(self) -> Option<i64> {
        let offset = self.time.offset_micros?;
        Some(self.date.days() * SECONDS_PER_DAY * MICROS_PER_SECOND + self.time.micros() - offset)
    }

    /// Whether it names a moment.
    #[must_use]
    pub fn has_zone(self) -> bool {
        self.time.has_zone()
    }

    /// Its date.
    #[must_use]
    pub const fn date(self) -> Date {
        self.date
    }

    /// Its time of day.
    #[must_use]
    pub const fn time(self) -> Time {
        self.time
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)?;
        if self.micro != 0 {
            write!(f, ".{:06}", self.micro)?;
        }
        let Some(offset) = self.offset_micros else { return Ok(()) };
        let (sign, offset) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        let (seconds, micros) = (offset / MICROS_PER_SECOND, offset % MICROS_PER_SECOND);
        write!(f, "{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60)?;
        if seconds % 60 != 0 || micros != 0 {
            write!(f, ":{:02}", seconds % 60)?;
        }
        if micros != 0 {
            write!(f, ".{micros:06}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}", self.date, self.time)
    }
}

impl FromStr for Date {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut left = Left(text.as_bytes());
        let date = left.date();
        date.filter(|_| left.0.is_empty()).ok_or(Malformed::Date)
    }
}

impl FromStr for Time {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut left = Left(text.as_bytes());
        let time = left.time();
        time.filter(|_| left.0.is_empty()).ok_or(Malformed::Date)
    }
}

impl FromStr for DateTime {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut left = Left(text.as_bytes());
        let date = left.date().ok_or(Malformed::Date)?;
        if left.0.is_empty() {
            let midnight = Time { hour: 0, minute: 0, second: 0, micro: 0, offset_micros: None };
            return Ok(Self { date, time: midnight });
        }
        // Python takes any one character here; `T` is what it writes.
        let rest = std::str::from_utf8(left.0).map_err(|_| Malformed::Date)?;
        let mut rest = rest.chars();
        rest.next();
        rest.as_str().parse().map(|time| Self { date, time })
    }
}

/// What is left of a text.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn date(&mut self) -> Option<Date> {
        let year = self.digits(4)?;
        let month = self.after(b'-', 2)?;
        let day = self.after(b'-', 2)?;
        Date::new(u16::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?)
    }

    fn time(&mut self) -> Option<Time> {
        let (seconds, micro) = self.clock()?;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let time = Time::new(u8::try_from(hour).ok()?, minute as u8, second as u8, micro)?;
        let Some((&sign, rest)) = self.0.split_first() else { return Some(time) };
        self.0 = rest;
        let offset_micros = match sign {
            b'Z' | b'z' => 0,
            b'+' | b'-' => {
                let (seconds, micros) = self.clock()?;
                let offset = i64::from(seconds) * MICROS_PER_SECOND + i64::from(micros);
                if sign == b'-' { -offset } else { offset }
            }
            _ => return None,
        };
        (offset_micros.abs() < SECONDS_PER_DAY * MICROS_PER_SECOND)
            .then_some(Time { offset_micros: Some(offset_micros), ..time })
    }

    /// `HH[:MM[:SS[.f…]]]`, as seconds and microseconds. Digits beyond the sixth are cut, as Python cuts them.
    fn clock(&mut self) -> Option<(u32, u32)> {
        let below = |number: u32, limit: u32| (number < limit).then_some(number);
        let mut seconds = below(self.digits(2)?, 24)? * 3600;
        let mut micro = 0;
        if self.0.first() == Some(&b':') {
            seconds += below(self.after(b':', 2)?, 60)? * 60;
            if self.0.first() == Some(&b':') {
                seconds += below(self.after(b':', 2)?, 60)?;
                if matches!(self.0.first(), Some(b'.' | b',')) {
                    self.0 = &self.0[1..];
                    let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let kept = len.min(6);
                    micro = self.digits(kept)? * 10_u32.pow(6 - kept as u32);
                    self.0 = &self.0[len - kept..];
                }
            }
        }
        Some((seconds, micro))
    }

    fn after(&mut self, mark: u8, len: usize) -> Option<u32> {
        self.0 = self.0.strip_prefix(&[mark])?;
        self.digits(len)
    }

    /// A number of exactly `len` digits, at least one and at most nine.
    fn digits(&mut self, len: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        let number = |sum: u32, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'));
        if digits.is_empty() { None } else { digits.iter().try_fold(0, number) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> Option<i64> {
        text.parse::<DateTime>().unwrap().unix_micros()
    }

    #[test]
    fn moments_are_counted_as_python_counts_them() {
        assert_eq!(micros("1970-01-01T00:00:00+00:00"), Some(0));
        assert_eq!(micros("2024-06-01T00:00:00+05:30"), Some(1_717_180_200_000_000));
        assert_eq!(micros("0001-01-01T00:00:00.000001+00:00"), Some(-62_135_596_799_999_999));
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(253_402_300_799_999_999));
        assert_eq!(micros("2024-01-15T12:30:00"), None);
    }

    #[test]
    fn what_python_does_not_take_is_refused() {
        for wrong in [
            "",
            "2024-1-15",
            "2024-13-01",
            "2023-02-29",
            "0000-01-01",
            "not a date",
            "2024-01-15T",
            "2024-01-15T24:00:00",
            "2024-01-15T12:60",
            "2024-01-15T12:30:00+24:00",
            "2024-01-15T12:30:00x",
            "2024-01-15T12:30:00.",
            "2024-01-15T12:30:00+",
            "２０２４-01-15",
        ] {
            assert!(wrong.parse::<DateTime>().is_err(), "{wrong}");
        }
        for (text, written) in [
            ("2024-01-15", "2024-01-15T00:00:00"),
            ("2024-01-15 12:30", "2024-01-15T12:30:00"),
            ("2024-01-15T12:30:00.5Z", "2024-01-15T12:30:00.500000+00:00"),
            ("2024-01-15T12:30:00.1234567-01:02:03.000004", "2024-01-15T12:30:00.123456-01:02:03.000004"),
        ] {
            assert_eq!(text.parse::<DateTime>().unwrap().to_string(), written);
        }
    }

    proptest! {
        #[test]
        fn moments_survive_their_text(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
            let moment = DateTime::from_unix_micros(micros).unwrap();
            prop_assert_eq!(moment.unix_micros(), Some(micros));
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (text.parse::<Date>(), text.parse::<Time>(), text.parse::<DateTime>());
        }
    }
}
