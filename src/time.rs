//! Time as plain numbers: [`Time`] orders what a client does, [`Timestamp`] is what files carry.

use std::{fmt, ops::Add, time::Duration};

/// A point on `CLOCK_MONOTONIC`, in nanoseconds. The consistency core is told the time and never asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's origin.
    pub const ZERO: Time = Time(0);
    /// Later than everything else: never.
    pub const NEVER: Time = Time(u64::MAX);

    /// The point that lies `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// The point that lies `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`].
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    /// Seconds with six decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

/// The longest span that is told from others: 100 years.
pub const FOREVER: Duration = Duration::from_secs(100 * 31_557_600);

/// How long one kind of mutation takes to land: always the same, or drawn evenly from a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The shortest delay.
    pub min: Duration,
    /// The longest delay; the same as `min` for a fixed one.
    pub max: Duration,
}

impl Delay {
    /// None.
    pub(crate) const ZERO: Delay = Delay::fixed_millis(0);

    /// A delay that is always `millis` milliseconds.
    pub const fn fixed_millis(millis: u64) -> Delay {
        Delay { min: Duration::from_millis(millis), max: Duration::from_millis(millis) }
    }

    /// Whether a mutation is written through: applied before its call returns.
    pub fn is_zero(&self) -> bool {
        self.max.is_zero()
    }

    /// The delay at `fraction` (0 to 1) of the range.
    pub fn at(&self, fraction: f64) -> Duration {
        self.min + self.max.saturating_sub(self.min).mul_f64(fraction.clamp(0.0, 1.0))
    }
}

/// A span as people write it, read back by [`parse_span`](crate::knobs::parse_span).
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if self.0 == FOREVER {
            f.write_str("forever")
        } else if nanos.is_multiple_of(1_000_000) {
            write!(f, "{}ms", nanos / 1_000_000)
        } else {
            write!(f, "{}us", nanos as f64 / 1_000.0)
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", Span(self.min))
        } else {
            write!(f, "{}..{}", Span(self.min), Span(self.max))
        }
    }
}

/// A wall clock time as files carry it: seconds since 1970 (negative before) and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    pub nanos: u32,
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl Timestamp {
    /// Nanoseconds since 1970, which reach from 1677 to 2262; none for a time outside.
    pub fn as_nanos(self) -> Option<i64> {
        self.seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(i64::from(self.nanos))
    }

    /// The time so many nanoseconds after 1970 (before, if negative).
    pub fn from_nanos(nanos: i64) -> Timestamp {
        let within = nanos.rem_euclid(NANOS_PER_SECOND).unsigned_abs();
        Timestamp { seconds: nanos.div_euclid(NANOS_PER_SECOND), nanos: u32::try_from(within).unwrap_or(0) }
    }

    /// Stands for the moment at which a call is carried out (`UTIME_NOW`, `utimensat(2)`).
    pub const NOW: Timestamp = Timestamp { seconds: 0, nanos: (1 << 30) - 1 };

    /// This time, where [`Timestamp::NOW`] stands for `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        if self == Timestamp::NOW { now } else { self }
    }
}

impl fmt::Display for Timestamp {
    /// As the log has it: UTC with microseconds, `2031-05-04T09:12:11.051010Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECONDS_PER_DAY: i64 = 86_400;
        let (year, month, day) = date_of(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let micros = self.nanos / 1000;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The year, month and day so many days after 1970-01-01. Years are counted from March, so that the leap day is the last
/// of them, in eras of 400 years, which are all alike.
fn date_of(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    const FIRST_OF_MARCH_OF_YEAR_0: i64 = -719_468;
    let days = days - FIRST_OF_MARCH_OF_YEAR_0;
    let (era, day) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days together, and so have the next five.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, is_next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + is_next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_and_since_never_goes_below_zero() {
        assert_eq!(Time::from_millis(1) + Duration::from_millis(2), Time::from_millis(3));
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time::from_millis(1).since(Time::from_millis(5)), Duration::ZERO);
    }

    #[test]
    fn a_timestamp_is_nanoseconds_on_both_sides_of_1970() {
        for (seconds, nanos, total) in
            [(1, 5, 1_000_000_005), (-1, 999_999_999, -1), (-2, 0, -2_000_000_000), (0, 0, 0)]
        {
            let time = Timestamp { seconds, nanos };
            assert_eq!((time.as_nanos(), Timestamp::from_nanos(total)), (Some(total), time));
        }
        assert_eq!(Timestamp { seconds: 10_000_000_000, nanos: 0 }.as_nanos(), None);
    }

    #[test]
    fn a_timestamp_shows_its_date_and_time_of_day_in_utc() {
        for (seconds, nanos, shown) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (1_935_738_733, 411_722_433, "2031-05-05T09:12:13.411722Z"),
            (4_107_542_399, 1_000, "2100-02-28T23:59:59.000001Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp { seconds, nanos }.to_string(), shown);
        }
    }

    #[test]
    fn shows_seconds_with_microseconds() {
        assert_eq!(Time::from_nanos(1_002_003_999).to_string(), "1.002003");
    }
}
